"""Files that are no video, but make FFmpeg open other files, or paint text."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.video.decode import ClipReader
from service.video.errors import NotAVideo
from service.video.spec import ClipSpec
from tests.drawn import draw

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)


@pytest.fixture
def someone_elses(tmp_path: Path) -> Path:
    return draw(tmp_path / "secret.ts", num_frames=10).path


@pytest.mark.parametrize("name", ["upload", "upload.mp4"])
def test_a_list_of_files_opens_none_of_them(someone_elses: Path, name: str) -> None:
    upload = someone_elses.with_name(name)
    upload.write_text(f"ffconcat version 1.0\nfile {someone_elses.name}\n")
    with pytest.raises(NotAVideo):
        ClipReader(upload, SPEC)


def test_a_playlist_opens_no_file(someone_elses: Path) -> None:
    upload = someone_elses.with_name("upload.m3u8")
    upload.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{someone_elses}\n#EXT-X-ENDLIST\n")
    with pytest.raises(NotAVideo):
        ClipReader(upload, SPEC)


def test_text_is_not_painted(tmp_path: Path) -> None:
    upload = tmp_path / "upload.txt"
    upload.write_text("This is not a video.\n" * 100)
    with pytest.raises(NotAVideo):
        ClipReader(upload, SPEC)


def test_a_relative_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "12:30.mp4", num_frames=10)
    monkeypatch.chdir(tmp_path)
    with ClipReader(Path("12:30.mp4"), SPEC) as reader:
        assert sum(len(chunk.frames) for chunk in reader.chunks(16)) == 4
