from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from models import encoders
from models.checkpoint import Checkpoint, CheckpointError
from models.data.features import NOT_FINITE, Features, FeatureStore, LeftOut, Rows, extract
from models.errors import FeatureError
from models.heads import HeadDims, SequenceHead
from models.report.confusion import confusion, write_confusion
from service.video.errors import DecoderLost
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.drawn import draw

ROOT = Path(__file__).resolve().parents[3]
FPS = 5
SPEC = ClipSpec(sample_fps=FPS, frame_height=64, frame_width=64, window_frames=4, stride_frames=2)


@pytest.fixture(scope="module")
def encoder() -> encoders.ImageEncoder:
    return encoders.build("efficientnet-lite0", 64, 64)


def test_folding_batch_norms_changes_nothing_but_rounding(encoder: encoders.ImageEncoder) -> None:
    frames = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(encoders.folded(encoder, 64, 64)(frames), encoder(frames), atol=1e-4, rtol=0)


def test_normalisation_is_that_of_imagenet(encoder: encoders.ImageEncoder) -> None:
    frames = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    pixels = frames.numpy().astype(np.float64) / 255
    normal = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    image = torch.from_numpy(normal.transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(frames), encoder.cnn(image).mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)


def test_a_gpu_gets_the_frames_and_keeps_its_features_apart(tmp_path: Path, encoder: encoders.ImageEncoder) -> None:
    """`meta` stands for a GPU: it computes with nothing that lies elsewhere, and gives no number."""
    clip, batches = draw(tmp_path / "a.mp4", num_frames=20).path, list[int]()
    store, device = tmp_path / "store", torch.device("meta")
    load_one(FeatureStore(store, encoder, SPEC), clip)
    on_gpu = FeatureStore(store, encoder, SPEC, device=device)
    on_gpu._network.register_forward_pre_hook(
        lambda _, frames: batches.append(len(frames[0])) if frames[0].device == device else None
    )
    with pytest.raises(NotImplementedError, match="meta"):
        load_one(on_gpu, clip)  # what the CPU gave is not taken for it
    assert batches == [4], "all of a short clip at once"
    assert {weight.device.type for weight in encoder.parameters()} == {"cpu"}


def test_features_are_stored_once_by_content_pixels_and_encoder(
    tmp_path: Path, encoder: encoders.ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = draw(tmp_path / "a.mp4", num_frames=20).path
    same = tmp_path / "renamed.mp4"
    same.write_bytes(clip.read_bytes())
    store = tmp_path / "store"
    first = load_one(FeatureStore(store, encoder, SPEC), clip)
    assert first.shape == (4, 1280)
    monkeypatch.setattr("models.data.features._encode", lambda *_: pytest.fail("extracted again"))
    windowless = SPEC.model_copy(update={"window_frames": 2, "stride_frames": 1})
    for spec in (SPEC, windowless):
        np.testing.assert_array_equal(load_one(FeatureStore(store, encoder, spec), same), first)
    monkeypatch.undo()
    load_one(FeatureStore(store, encoder, SPEC.model_copy(update={"sample_fps": 10.0})), clip)
    assert len(list(store.glob("*.npz"))) == 2
    assert not list(store.glob("*.part"))


def load_one(store: FeatureStore, path: Path) -> Features:
    rows, left_out, sha256 = store.load([path], show_progress=False)
    assert left_out == []
    assert sha256 == {path: hashlib.sha256(path.read_bytes()).hexdigest()}
    features: Features = rows[path].features
    return features


def assert_as_one_by_one(found: Mapping[Path, Rows], encoder: encoders.ImageEncoder) -> None:
    """Each clip's features are those of that clip extracted alone."""
    network = encoders.folded(encoder, SPEC.frame_height, SPEC.frame_width)
    with DecodePool(num_credits=1) as pool:
        for path, (features, times) in found.items():
            np.testing.assert_array_equal(features, extract(path, network, SPEC, pool))
            np.testing.assert_allclose(times, np.arange(len(features)) / FPS, atol=1e-9)


def test_clips_that_are_decoded_ahead_are_those_of_one_by_one(tmp_path: Path, encoder: encoders.ImageEncoder) -> None:
    """More clips than are decoded at once, of many lengths; the same content twice."""
    paths = [draw(tmp_path / f"{number}.mp4", num_frames=10 + 13 * (number % 5)).path for number in range(9)]
    found, left_out, _ = FeatureStore(tmp_path / "store", encoder, SPEC).load(paths, show_progress=False)
    assert (list(found), left_out) == (paths, [])
    assert_as_one_by_one(found, encoder)


def test_a_broken_clip_is_left_out_in_the_words_of_the_service(tmp_path: Path, encoder: encoders.ImageEncoder) -> None:
    whole = draw(tmp_path / "whole.mp4", num_frames=20).path
    text, empty, gone = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "gone.mp4"
    text.write_text("not a video")
    empty.touch()
    found, left_out, sha256 = FeatureStore(tmp_path / "store", encoder, SPEC).load(
        [text, whole, empty, gone], show_progress=False
    )
    assert list(found) == [whole]
    assert [clip.path for clip in left_out] == [text, empty, gone]
    assert [clip.why.split(":")[0] for clip in left_out] == ["not_a_video", "empty_file", "unreadable"]
    assert list(sha256) == [text, whole, empty]


def test_features_that_are_not_finite_are_told_and_not_stored(
    tmp_path: Path, encoder: encoders.ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = draw(tmp_path / "a.mp4", num_frames=20).path
    store = FeatureStore(tmp_path / "store", encoder, SPEC)
    monkeypatch.setattr(store, "_network", lambda frames: torch.full((len(frames), 4), torch.inf))
    assert store.load([clip], show_progress=False)[:2] == ({}, [LeftOut(clip, NOT_FINITE)])
    assert not list(store.folder.glob("*.npz"))


def test_maps_beyond_float16_are_told_and_not_stored(
    tmp_path: Path, encoder: encoders.ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = draw(tmp_path / "a.mp4", num_frames=9).path
    store = FeatureStore(tmp_path / "store", encoder, SPEC, until="block7")
    monkeypatch.setattr(store, "_network", lambda frames: torch.full((len(frames), 4, 2, 2), 7e4))
    rows, left_out, _ = store.load([clip], show_progress=False)
    assert (rows, left_out) == ({}, [LeftOut(clip, NOT_FINITE)])
    assert not list((tmp_path / "store").glob("*.npz"))


def test_what_is_no_files_fault_ends_the_run_and_names_the_clip(
    tmp_path: Path, encoder: encoders.ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that is killed from outside, twice; here it is only said to be."""

    def lost(*_: object) -> None:
        raise DecoderLost("a decode process was killed from outside (SIGKILL)")

    monkeypatch.setattr("models.data.features._encode", lost)
    clip = draw(tmp_path / "a.mp4", num_frames=20).path
    with pytest.raises(FeatureError, match=r"a\.mp4: decoder_lost: .*SIGKILL"):
        FeatureStore(tmp_path / "store", encoder, SPEC).load([clip], show_progress=False)


def test_a_store_is_shared_by_processes_of_which_one_is_killed(tmp_path: Path, encoder: encoders.ImageEncoder) -> None:
    """Both extract the same clips; one is killed as soon as something is stored."""
    paths = [draw(tmp_path / f"{number}.mp4", num_frames=20 + number).path for number in range(8)]
    program = (
        "import sys; from pathlib import Path; from models import encoders\n"
        "from models.data.features import FeatureStore\n"
        "from service.video.spec import ClipSpec\n"
        f"spec = ClipSpec.model_validate_json({SPEC.model_dump_json()!r})\n"
        "store = FeatureStore(Path(sys.argv[1]), encoders.build('efficientnet-lite0', 64, 64), spec)\n"
        "found, left_out, _ = store.load([Path(name) for name in sys.argv[2:]], show_progress=False)\n"
        "assert len(found) == 8 and not left_out"
    )
    store = tmp_path / "store"
    command = [sys.executable, "-c", program, str(store), *map(str, paths)]
    killed, other = (subprocess.Popen(command, cwd=ROOT) for _ in range(2))
    while not list(store.glob("*.npz")) and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert other.wait(300) == 0
    found, left_out, _ = FeatureStore(store, encoder, SPEC).load(paths, show_progress=False)
    assert (list(found), left_out) == (paths, [])
    assert_as_one_by_one(found, encoder)


def test_what_a_lost_machine_left_behind_is_extracted_again(tmp_path: Path, encoder: encoders.ImageEncoder) -> None:
    clip = draw(tmp_path / "a.mp4", num_frames=20).path
    store = FeatureStore(tmp_path / "store", encoder, SPEC)
    first = load_one(store, clip)
    [stored] = store.folder.glob("*.npz")
    for spoiled in (b"", stored.read_bytes()[:-100], b"\0" * 500):
        stored.write_bytes(spoiled)
        np.testing.assert_array_equal(load_one(store, clip), first)
    np.save(stored, np.full_like(first, np.nan), allow_pickle=False)
    np.testing.assert_array_equal(load_one(store, clip), first)


def test_a_frame_that_serves_several_ticks_is_repeated(tmp_path: Path, encoder: encoders.ImageEncoder) -> None:
    clip = draw(tmp_path / "slow.mp4", num_frames=4, fps=2).path
    with DecodePool(num_credits=1) as pool:
        features = extract(clip, encoders.folded(encoder, 64, 64), SPEC, pool)
    assert len(features) > 4
    assert len(np.unique(features, axis=0)) == 4


def test_a_checkpoint_survives_its_file(tmp_path: Path, encoder: encoders.ImageEncoder) -> None:
    head = SequenceHead(HeadDims(1280, 8, 2, "mean")).eval()
    checkpoint = Checkpoint(
        "m", ("a", "b"), SPEC, encoder.name, encoder.state_dict(), head.dims, head.state_dict(), {"seed": 0}
    )
    checkpoint.save(tmp_path / "m.pt")
    held = Checkpoint.load(tmp_path / "m.pt")
    assert (held.labels, held.spec, held.head_dims, held.training) == (("a", "b"), SPEC, head.dims, {"seed": 0})
    frames = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(held.encoder()(frames), encoder(frames))
        features = torch.rand(1, 3, 1280)
        assert torch.equal(held.head()(features, torch.tensor([3])), head(features, torch.tensor([3])))


def test_another_file_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a Reelserve checkpoint"):
        Checkpoint.load(tmp_path / "other.pt")


def test_the_confusion_matrix_counts_and_is_written(tmp_path: Path) -> None:
    matrix = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    table, picture = write_confusion(matrix, ("a", "b", "c"), tmp_path)
    assert table.read_text().splitlines()[1] == "a,1,1,0"
    assert picture.read_bytes().startswith(b"\x89PNG")
