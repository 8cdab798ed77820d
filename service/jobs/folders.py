"""Which files of a folder are videos: by their names, and by their first bytes where the name says nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from service.jobs.errors import BadInput
from service.jobs.magic import HEAD_BYTES, is_animated, is_text, is_video
from service.names import visible, written

# Containers and streams that hold a video whenever they have such a name, as far as anybody can tell beforehand.
VIDEO_SUFFIXES = frozenset([
    ".3g2", ".3gp", ".3gp2", ".3gpp", ".264", ".265", ".apng", ".asf", ".avc", ".avi", ".divx", ".f4v", ".flv", ".h264",
    ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg",
    ".mjpg", ".mk3d", ".mkv", ".mov", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".obu",
    ".ogm", ".ogv", ".qt", ".tp", ".trp", ".ts", ".vob", ".webm", ".wmv", ".y4m",
])  # fmt: skip
# TypeScript's too.
_ALSO_TEXT = frozenset({".mts", ".ts"})
_ALSO_PICTURES = frozenset({".avif", ".gif", ".png", ".webp"})
# In containers that hold video too.
_SOUND_AND_PICTURES = frozenset([
    ".aac", ".cr3", ".f4a", ".heic", ".heif", ".jpeg", ".jpg", ".m4a", ".m4b", ".m4p", ".m4r", ".mka", ".mp3", ".oga",
    ".opus", ".spx", ".weba", ".wma",
])  # fmt: skip
_MOST_KINDS = 8


class PassedOver:
    """Files that are no video, counted by kind."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._kinds.total()

    def __str__(self) -> str:
        """`passed over 3 files that are no video: 2 .txt, 1 .jpg`."""
        kinds = [f"{count} {kind}" for kind, count in sorted(self._kinds.items(), key=lambda each: (-each[1], each[0]))]
        if len(kinds) > _MOST_KINDS:
            rest = len(self) - sum(count for _, count in self._kinds.most_common(_MOST_KINDS))
            kinds = [*kinds[:_MOST_KINDS], f"{rest} of other kinds"]
        files = "1 file that is" if len(self) == 1 else f"{len(self)} files that are"
        return f"passed over {files} no video: {', '.join(kinds)}"

    def add(self, name: str, kind: str | None = None) -> None:
        """A file by its name or path; kind: of what is no file."""
        self._kinds[kind or visible(suffix_of(name)) or "without extension"] += 1


def suffix_of(name: str) -> str:
    """Lower case, with its dot; empty without one."""
    return Path(name.rpartition("/")[2]).suffix.lower()


def is_named_video(name: str) -> bool:
    """By its name alone, where looking into it would cost a request."""
    return suffix_of(name) in VIDEO_SUFFIXES | {".gif"}


def is_video_file(path: Path) -> bool:
    """What is named as a video, if it is a file or a link that leads nowhere; other files by content."""
    suffix = path.suffix.lower()
    if not path.is_file():
        return suffix in VIDEO_SUFFIXES and path.is_symlink() and not path.exists()
    if suffix in _SOUND_AND_PICTURES or (suffix in VIDEO_SUFFIXES and suffix not in _ALSO_TEXT):
        return suffix in VIDEO_SUFFIXES
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if suffix in _ALSO_TEXT:
                return not is_text(head)
            return is_animated(file, head) if suffix in _ALSO_PICTURES else is_video(file, head)
    except OSError:
        return False


def videos_below(folder: Path, passed_over: PassedOver, above: tuple[Path, ...] = ()) -> Iterator[str]:
    """Paths as `names.written` has them, sorted, as the next run must list them alike.

    Nothing hidden, and no link to a folder above. Raises BadInput for a folder that can't be listed.
    """
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise BadInput(f"{written(folder)} can't be listed: {error.strerror}", value=written(folder)) from error
    above = (*above, folder.resolve())
    for path in found:
        if os.path.isdir(path):  # noqa: PTH112  (which raises nothing)
            if path.resolve() not in above:
                yield from videos_below(path, passed_over, above)
        elif is_video_file(path):
            yield written(path)
        else:
            passed_over.add(path.name, None if path.is_file() else "special")
