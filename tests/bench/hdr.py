"""How often a label changes when a phone records HDR: real clips as HLG and as PQ against the same clips in SDR.

Each clip is coded anew, in 10-bit HEVC at one quality, from the same R'G'B' pictures (some 8 a second): as BT.709; and
as ITU-R BT.2100 HLG and PQ, mapped as BT.2408 has it for SDR in HDR programmes: display light of BT.1886, 203 cd/m² for
white, in BT.2020's primaries, on a nominal display of 1000 cd/m². `ignored` are the same HDR samples with the tag of
the matrix alone: for a decoder that ignores transfer function and primaries. All go through the pipeline of the
service, in this process. Run: `python -m tests.bench hdr [--clips 60]`.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from rich.progress import track

from service.answers import AnswerOptions
from service.bundle import file_sha256
from service.engine.shared import LoadedModel
from service.pipeline import ClipRequest
from service.results import Prediction
from service.serving import Serving
from service.settings import Settings
from tests.bench.load import clips_of
from tests.bench.report import finish, parser
from tests.colours import Coding, Plane, coding_of, exact, planes
from tests.long_clips import LONGEST_GOP

PICTURES_A_SECOND = 8
REFERENCE_WHITE_NITS, DISPLAY_NITS, PQ_NITS = 203.0, 1000.0, 10_000.0  # BT.2408 § 2.1; BT.2100, HLG's note 5e; PQ
_DISPLAY_GAMMA = 2.4  # BT.1886
_SYSTEM_GAMMA = 1.2  # BT.2100, of HLG at 1000 cd/m²
# BT.2087, equation for linear light.
_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
_LUMA_BT2020 = np.array([0.2627, 0.6780, 0.0593])
_ENCODING = {"preset": "veryfast", "crf": "18", "x265-params": "log-level=none:pools=none:frame-threads=1"}
_ALL_LABELS = AnswerOptions(top_k=1000)

Signal = Callable[[Plane], Plane]


def hlg(rgb: Plane) -> Plane:
    """BT.709's R'G'B' in [0, 1] as HLG's: the inverse of its display's OOTF, then its OETF (BT.2100, table 5)."""
    light = _bt2020_light(rgb) * (REFERENCE_WHITE_NITS / DISPLAY_NITS)
    luma = np.maximum(light @ _LUMA_BT2020, 1e-9)[..., None]
    scene = light * luma ** ((1 - _SYSTEM_GAMMA) / _SYSTEM_GAMMA)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, b)) + c))


def pq(rgb: Plane) -> Plane:
    """BT.709's R'G'B' in [0, 1] as PQ's: the inverse of its EOTF (BT.2100, table 4)."""
    light = _bt2020_light(rgb) * (REFERENCE_WHITE_NITS / PQ_NITS)
    m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
    power = light**m1
    return np.asarray(((c1 + c2 * power) / (1 + c3 * power)) ** m2)


def _bt2020_light(rgb: Plane) -> Plane:
    """Of a display, white being 1."""
    return np.asarray((rgb**_DISPLAY_GAMMA) @ _TO_BT2020.T).clip(0, 1)


def _as_it_is(rgb: Plane) -> Plane:
    return rgb


# The signal; MatrixCoefficients, ColourPrimaries and TransferCharacteristics (ITU-T H.273), 2 where untagged.
VERSIONS: dict[str, tuple[Signal, tuple[int, int, int]]] = {
    "sdr": (_as_it_is, (1, 1, 1)),
    "hlg": (hlg, (9, 9, 18)),
    "hlg ignored": (hlg, (9, 2, 2)),
    "pq": (pq, (9, 9, 16)),
    "pq ignored": (pq, (9, 2, 2)),
}


@dataclass(frozen=True)
class Version:
    """Against `sdr`. score_change: mean |Δ| of its first label's score; largest: of any label's, of any clip.
    decode_seconds: median."""

    name: str
    clips: int
    labels_changed: int
    score_change: float
    largest_change: float
    decode_seconds: float

    def __str__(self) -> str:
        return (
            f"  {self.name:<12}{self.labels_changed:>4} of {self.clips} labels change, mean |Δ score| "
            f"{self.score_change:.3f}, largest {self.largest_change:.2f}; decode {self.decode_seconds:.2f} s"
        )


def main(arguments: list[str]) -> None:
    """Print how often each version's label differs from the SDR one's."""
    flags = parser("hdr", __doc__)
    flags.add_argument("--clips", type=int, default=60)
    options = flags.parse_args(arguments)
    if options.quick:
        options.clips = 2
    sources = [clip.path for clip in clips_of(options.data, options.seed, options.clips)]
    serving = Serving(Settings(feature_cache_bytes=0))
    serving.load()
    try:
        model = serving.model(None)
        answers = [_answers(serving, model, source) for source in track(sources, "clips")]
    finally:
        serving.close()
    results = [_compared(name, answers) for name in answers[0]]
    print(f"{len(sources)} clips against the same clips as SDR, {model.name.name} {model.name.version}")
    print("\n".join(map(str, results)))
    finish("hdr", results, options)


def _answers(serving: Serving, model: LoadedModel, source: Path) -> dict[str, Prediction]:
    """Of the clip as it is, and of every version."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {"original": source, **write_versions(source, Path(folder))}
        requests = {name: ClipRequest(path, file_sha256(path), _ALL_LABELS) for name, path in paths.items()}
        return {name: serving.predict(request, [model])[0] for name, request in requests.items()}


def write_versions(source: Path, folder: Path, most: int | None = None) -> dict[str, Path]:
    """All of `VERSIONS`, of the same pictures, `most` at most, at the same times."""
    pictures = list(islice(_pictures(source), most))
    paths = {name: folder / f"{name.replace(' ', '-')}.mp4" for name in VERSIONS}
    for name, (signal, tags) in VERSIONS.items():
        _write(paths[name], [(seconds, signal(rgb)) for seconds, rgb in pictures], tags)
    return paths


def _pictures(source: Path) -> Iterator[tuple[float, Plane]]:
    """Times, and R'G'B' in [0, 1] with even sides."""
    with av.open(source) as container:
        stream = container.streams.video[0]
        every = max(1, round(float(stream.average_rate or PICTURES_A_SECOND) / PICTURES_A_SECOND))
        for number, frame in enumerate(container.decode(stream)):
            if number % every == 0:
                rgb = exact(frame, coding_of(frame)) / 255
                yield float(frame.time or 0.0), rgb[: len(rgb) // 2 * 2, : rgb.shape[1] // 2 * 2]


def _write(path: Path, pictures: Sequence[tuple[float, Plane]], tags: tuple[int, int, int]) -> None:
    height, width = pictures[0][1].shape[:2]
    with av.open(path, "w") as container:
        stream = container.add_stream("libx265", rate=PICTURES_A_SECOND, options=_ENCODING)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        context = stream.codec_context
        context.thread_count, context.gop_size, context.time_base = 1, LONGEST_GOP, Fraction(1, 90_000)
        context.colorspace, context.color_primaries, context.color_trc = tags
        context.color_range = 1
        for seconds, rgb in pictures:
            frame = planes(_Picture(rgb), width, height, "yuv420p10le", Coding(tags[0]))
            frame.pts, frame.time_base = round(seconds * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class _Picture:
    """A picture as a scene: chroma, whose samples lie between rows, is what a filter of 2 rows and 3 columns sees."""

    def __init__(self, rgb: Plane) -> None:
        beside = np.pad(rgb, ((0, 0), (1, 1), (0, 0)), mode="edge")
        smooth = (beside[:, :-2] + 2 * beside[:, 1:-1] + beside[:, 2:]) / 4
        self._rgb, self._between = rgb, (smooth[:-1] + smooth[1:]) / 2

    def __call__(self, y: Plane, x: Plane) -> Plane:
        rows, columns = y[:, 0], x[0].astype(int)
        source = self._rgb if float(rows[0]).is_integer() else self._between
        return np.asarray(source[np.ix_(rows.astype(int), columns)])


def _compared(name: str, answers: Sequence[dict[str, Prediction]]) -> Version:
    pairs = [(each["sdr"], each[name]) for each in answers]
    scores = [[{one.label: one.score for one in answer.predictions} for answer in pair] for pair in pairs]
    firsts = [[answer.predictions[0].label for answer in pair] for pair in pairs]
    return Version(
        name=name,
        clips=len(pairs),
        labels_changed=sum(before != after for before, after in firsts),
        score_change=statistics.mean(
            abs(before[first] - after[first]) for (first, _), (before, after) in zip(firsts, scores, strict=True)
        ),
        largest_change=max(abs(before[label] - after[label]) for before, after in scores for label in before),
        decode_seconds=statistics.median(answer.timing_ms.decode for _, answer in pairs) / 1e3,
    )
