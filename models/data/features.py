"""Stored feature vectors: each clip goes through decode and CNN once, so that an epoch takes seconds.

Keyed by content (SHA-256 of file), pixels (the clip spec without its windows) and encoder (its weights).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from models.data.decode_ahead import FAULTS_OF_FILES, decode_ahead, said
from models.data.hashes import Hashes
from models.encoders import ImageEncoder, MapsOf, folded, weights_sha256
from models.errors import FeatureError
from service.errors import ReelserveError
from service.names import visible
from service.video.chunk import FrameChunk, Times
from service.video.frames import REVISION
from service.video.pool import DecodePool
from service.video.report import DecodeReport
from service.video.spec import ClipSpec

Features = NDArray[np.float32]

# Small batches stay in a CPU's cache: measured 5 ms a frame at 4, 21 ms at 32.
BATCH_FRAMES = 4
# Of a GPU small ones leave most of it idle.
GPU_BATCH_FRAMES = 64
CPU = torch.device("cpu")
NOT_FINITE = "the encoder gives numbers that are not finite for it, or maps beyond float16's 65504"


@dataclass(frozen=True)
class LeftOut:
    """A clip without features. why: what is wrong with the file, in the service's words, or NOT_FINITE."""

    path: Path
    why: str


class Rows(NamedTuple):
    """Of one clip: a row a tick (T, …), features (T, D) float32 as a rule, and the ticks' times (T), seconds."""

    features: NDArray[Any]
    times: Times


class Stored(NamedTuple):
    """Rows by clip; the clips that have none; and of all that could be read what their files held.

    sha256: hex, of the bytes that the features are of, by clip.
    """

    rows: dict[Path, Rows]
    left_out: list[LeftOut]
    sha256: dict[Path, str]


class FeatureStore:
    """A folder of `<sha256 of file + pixels + encoder>.npz`, one row a tick and its time.

    Pixels are decided by the spec and by the revision of the code that prepares them. `hashes.sqlite` beside them
    remembers what the files hold. Processes may share the folder, and may be killed.

    until: the stage before which the encoder is left; rows are then the maps (T, C, H, W) that the stage gets, float16,
    or, where it is the first, the pixels, uint8; else features (T, D), float32. device: what computes; what a GPU gave
    is stored beside what the CPU gave, as it rounds otherwise.
    """

    def __init__(
        self,
        folder: Path,
        encoder: ImageEncoder,
        spec: ClipSpec,
        until: str | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.folder = folder
        self.encoder = encoder
        self.spec = spec
        self._key = f"{REVISION}/{spec.pixels_sha256}/{weights_sha256(encoder)}"
        network: nn.Module = encoder
        self._dtype: type[np.number] = np.float32
        if until is not None:
            network = maps = MapsOf(encoder, until).eval()
            self._key += f"/{until}" + ("/pixels" if maps.of_pixels else "")
            self._dtype = np.uint8 if maps.of_pixels else np.float16
        if device.type != "cpu":
            self._key += f"/{device.type}"
        self._device = device
        self._batch_frames = BATCH_FRAMES if device.type == "cpu" else GPU_BATCH_FRAMES
        self._network = folded(network, spec.frame_height, spec.frame_width).to(device)

    def load(self, paths: Sequence[Path], *, show_progress: bool = True) -> Stored:
        """Features of the clips; what is not stored yet is extracted.

        The next clips are decoded while the network computes. Raises FeatureError where no file is to blame.
        """
        _keep_freed_memory()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        known: dict[Path, str] = {}
        places: dict[Path, Path] = {}  # of the features, by clip
        why: dict[Path, str] = {}  # there are none, by place or by a clip that can't be read
        with Progress(*columns, disable=not show_progress) as bar:
            with Hashes(self.folder / "hashes.sqlite") as hashes:
                for path, sha256 in bar.track(hashes.of(paths), len(paths), description="files"):
                    if isinstance(sha256, OSError):
                        why[path] = said(sha256)
                    else:
                        known[path], places[path] = sha256, self._stored(sha256)
            held = {place: rows for place in places.values() if (rows := _read(place)) is not None}
            # Of several files with one content the last is decoded.
            absent = {place: path for path, place in places.items() if place not in held}
            if absent:
                self._extract(absent, held, why, bar)
        found = {path: held[place] for path, place in places.items() if place in held}
        lost = [LeftOut(path, why[places.get(path, path)]) for path in dict.fromkeys(paths) if path not in found]
        return Stored(found, lost, known)

    def _extract(self, absent: dict[Path, Path], held: dict[Path, Rows], why: dict[Path, str], bar: Progress) -> None:
        """Fill `held`, or `why`, with the clips of `absent`, by place."""
        place_of = {path: place for place, path in absent.items()}
        with decode_ahead(place_of, self.spec, self._batch_frames) as clips, exact_convolutions():
            for clip in bar.track(clips, len(place_of), description="features"):
                place = place_of[clip.path]
                try:
                    features, seconds = _encode(clip.batches(), self._network, self._device)
                except FAULTS_OF_FILES as error:
                    why[place] = said(error)
                except ReelserveError as error:
                    raise FeatureError(f"{visible(clip.path)}: {said(error)}") from error
                else:
                    with np.errstate(over="ignore"):
                        features = features.astype(self._dtype)  # of float16 the largest is 65504
                    if np.isfinite(features).all():
                        held[place] = Rows(features, _times(len(features), self.spec, seconds, clip.report()))
                        _write(place, held[place])
                    else:
                        why[place] = NOT_FINITE

    def _stored(self, content_sha256: str) -> Path:
        return self.folder / f"{hashlib.sha256(f'{content_sha256}/{self._key}'.encode()).hexdigest()}.npz"


def extract(path: Path, network: torch.nn.Module, spec: ClipSpec, pool: DecodePool) -> Features:
    """Decode, sample and encode one clip: float32 (T, D), a repeated frame's feature repeated.

    Decoded as served clips are, in a process that hears what FFmpeg complains of. Raises as `OpenVideo` does.
    """
    with pool.open(path, spec) as video:
        return _encode(video.batches(BATCH_FRAMES), network)[0]


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """In float32 on GPUs of NVIDIA too, whose TF32 keeps 10 bits (PyTorch's CUDA semantics); the same each time."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _encode(
    batches: Iterable[FrameChunk], network: torch.nn.Module, device: torch.device = CPU
) -> tuple[Features, Times]:
    """A row a tick, and, where frames are the ticks, each one's time; else none."""
    rows, seconds = [], []
    with torch.inference_mode():
        for batch in batches:
            encoded = network(torch.from_numpy(batch.frames).to(device)).cpu().numpy()
            rows.append(np.repeat(encoded, batch.ticks, axis=0))
            seconds.append(batch.seconds)
    return np.concatenate(rows), np.concatenate(seconds)


def _times(num_ticks: int, spec: ClipSpec, seconds: Times, report: DecodeReport) -> Times:
    """Of each tick, from the stream's start."""
    if spec.sample_fps is None:
        return seconds
    return report.origin_seconds + np.arange(num_ticks) / spec.sample_fps


def _read(place: Path) -> Rows | None:
    """None where nothing is stored, or what a machine left that lost its power."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            rows = Rows(arrays["features"], arrays["times"])
    except (FileNotFoundError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    is_whole = rows.features.ndim >= 2 and rows.times.shape == rows.features.shape[:1]
    return rows if is_whole and np.isfinite(rows.features).all() else None


def _write(place: Path, rows: Rows) -> None:
    """Written aside, then renamed."""
    aside = place.with_suffix(f".{os.getpid()}.part")
    with aside.open("wb") as file:
        np.savez(file, features=rows.features, times=rows.times)
    aside.replace(place)


def _keep_freed_memory() -> None:
    """Let glibc reuse freed activations instead of returning them to the kernel (mallopt(3)).

    Measured on two cores: 9 ms a frame become 5, as the page faults go.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(ctypes.c_int(-3), ctypes.c_int(32 << 20))  # M_MMAP_THRESHOLD, its largest value
        libc.mallopt(ctypes.c_int(-1), ctypes.c_int(1 << 30))  # M_TRIM_THRESHOLD
