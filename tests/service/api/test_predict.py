"""POST /v1/predict over HTTP, on a real server: what a good clip gets."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.bundle import ModelDocument
from service.cli import app
from service.results import Prediction
from tests.drawn import Drawn, draw, serving_frames
from tests.real_clips import NAMES, real_clip
from tests.server import Server
from tests.zoo import MODEL

PATH = "/v1/predict"
# What differs between two answers to one question: who asked, and how long it took.
OF_THE_REQUEST = {"request_id", "timing_ms"}


@pytest.fixture(autouse=True)
def _nothing_stays(server: Server) -> Iterator[None]:
    yield
    server.assert_spool_is_empty()


def upload(client: httpx.Client, path: Path, **query: object) -> dict[str, Any]:
    """The answer for one file, sent as a form and checked against the schema."""
    params = {name: str(value) for name, value in query.items()}
    with path.open("rb") as file:
        response = client.post(PATH, params=params, files={"video": (path.name, file, "video/mp4")})
    assert response.status_code == httpx.codes.OK, response.text
    Prediction.model_validate(response.json(), extra="forbid")
    answer: dict[str, Any] = response.json()
    return answer


def content(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from request to request."""
    return {name: value for name, value in answer.items() if name not in OF_THE_REQUEST}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, clip: Drawn, long_clip: Drawn) -> list[Path]:
    """Eight clips that differ in length, size, rate, codec and content."""
    folder = tmp_path_factory.mktemp("eight")
    return [
        clip.path,
        long_clip.path,
        draw(folder / "a.webm", num_frames=20, encoder="libvpx", width=176, height=144).path,
        draw(folder / "b.avi", num_frames=90, fps=30, encoder="mjpeg", width=160, height=120).path,
        *[real_clip(name) for name in NAMES],
    ]


def test_the_shape_of_an_answer(client: httpx.Client, clip: Drawn, document: ModelDocument) -> None:
    answer = upload(client, clip.path)
    assert list(answer) == [
        "request_id", "model", "predictions", "abstained", "segments", "receipt", "timing_ms", "warnings",
    ]  # fmt: skip
    assert answer["model"] == {
        "name": MODEL,
        "version": document.version,
        "task": document.task,
        "sha256": client.get(f"/v1/models/{MODEL}").json()["sha256"],
    }
    scores = [line["score"] for line in answer["predictions"]]
    assert len(scores) == min(5, len(document.labels))
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert {line["label"] for line in answer["predictions"]} <= set(document.labels)
    assert answer["warnings"] == []
    assert list(answer["timing_ms"]) == ["upload", "probe", "decode", "queue", "encode", "head", "post", "total"]
    assert all(milliseconds >= 0 for milliseconds in answer["timing_ms"].values())


def test_the_receipt_of_a_drawn_clip(client: httpx.Client, clip: Drawn, document: ModelDocument) -> None:
    assert document.spec.sample_fps is not None
    serving = serving_frames(clip.timestamps, document.spec.sample_fps)
    assert upload(client, clip.path)["receipt"] == {
        "sha256": hashlib.sha256(clip.path.read_bytes()).hexdigest(),
        "duration_seconds": 2.0,
        "stream_start_seconds": 0.0,
        "width": 320,
        "height": 240,
        "sample_aspect_ratio": "1:1",
        "container": "MPEG-4",
        "codec": "h264",
        "decoder": "opencv",
        "pixel_format": "YUV 4:2:0",
        "bit_depth": 8,
        "interlaced": False,
        "hdr": None,
        "rotation_degrees": 0,
        "mirrored": False,
        "time_base": "pts",
        "frames_walked": 50,
        "frames_decoded": len(set(serving)),
        "frames_damaged": 0,
        "origin_seconds": 0.0,
        "ticks": len(serving),
        "ticks_end_seconds": min(len(serving) / document.spec.sample_fps, 2.0),
        "frames_used": len(set(serving)),
        "frames_repeated": len(serving) - len(set(serving)),
        "frames_dropped": 0,
        "first_seconds": clip.timestamps[serving[0]],
        "last_seconds": pytest.approx(clip.timestamps[serving[-1]], abs=1e-6),
        "sample_fps": document.spec.sample_fps,
        "region": None,
        "spec_sha256": document.spec.sha256,
        "window_frames": document.spec.window_frames,
        "stride_frames": document.spec.stride_frames,
        "runtime": "onnxruntime-cpu",
        "precision": "fp32",
        "cache": "off",
    }


def test_the_receipt_of_a_slow_clip_counts_repeated_frames(
    client: httpx.Client, tmp_path: Path, document: ModelDocument
) -> None:
    slow = draw(tmp_path / "slow.mp4", num_frames=5, fps=1)
    serving = serving_frames(slow.timestamps, document.spec.sample_fps)
    receipt = upload(client, slow.path)["receipt"]
    assert (receipt["frames_walked"], receipt["frames_used"]) == (5, 5)
    assert receipt["frames_repeated"] == len(serving) - 5


def test_a_turned_clip_is_turned_and_says_so(client: httpx.Client, tmp_path: Path) -> None:
    receipt = upload(client, draw(tmp_path / "turned.mp4", num_frames=20, rotation_degrees=90).path)["receipt"]
    assert (receipt["rotation_degrees"], receipt["width"], receipt["height"]) == (90, 320, 240)


def test_a_warning_reaches_the_answer(client: httpx.Client, tmp_path: Path) -> None:
    """AVI holds no presentation times: the last B-frames come without one."""
    answer = upload(client, draw(tmp_path / "clip.avi", b_frames=2).path)
    assert answer["receipt"]["time_base"] == "nominal"
    assert len(answer["warnings"]) == 1
    assert "nominal step" in answer["warnings"][0]


@pytest.mark.parametrize("content_type", ["video/mp4", "video/x-matroska", "application/octet-stream", "VIDEO/MP4"])
def test_a_raw_body_gets_the_answer_of_a_form(client: httpx.Client, clip: Drawn, content_type: str) -> None:
    raw = client.post(PATH, content=clip.path.read_bytes(), headers={"Content-Type": content_type})
    assert raw.status_code == httpx.codes.OK, raw.text
    assert content(raw.json()) == content(upload(client, clip.path))


@pytest.mark.parametrize("piece_bytes", [1, 1000, 2**20 + 1])
def test_a_chunked_body_needs_no_length(client: httpx.Client, clip: Drawn, piece_bytes: int) -> None:
    blob = clip.path.read_bytes()

    def pieces() -> Iterator[bytes]:
        first = min(len(blob), 100 * piece_bytes)  # pieces of one byte are slow: a hundred of them, then the rest
        yield from (blob[at : at + piece_bytes] for at in range(0, first, piece_bytes))
        yield blob[-(-first // piece_bytes) * piece_bytes :]

    response = client.post(PATH, content=pieces(), headers={"Content-Type": "video/mp4"})
    assert "content-length" not in response.request.headers
    assert content(response.json()) == content(upload(client, clip.path))


def test_a_chunked_form(client: httpx.Client, clip: Drawn) -> None:
    form = client.build_request("POST", PATH, files={"video": ("clip.mp4", clip.path.read_bytes())})
    blob = form.read()
    headers = {"Content-Type": form.headers["content-type"]}
    response = client.post(PATH, content=(blob[at : at + 777] for at in range(0, len(blob), 777)), headers=headers)
    assert content(response.json()) == content(upload(client, clip.path))


@pytest.mark.parametrize("name", NAMES)
def test_real_clips(client: httpx.Client, name: str, document: ModelDocument) -> None:
    path = real_clip(name)
    answer = upload(client, path)
    receipt = answer["receipt"]
    assert receipt["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert receipt["time_base"] == "pts"
    assert receipt["frames_used"] == pytest.approx(receipt["duration_seconds"] * document.spec.sample_fps, abs=1)
    assert receipt["frames_dropped"] == 0
    assert_tiles(answer)


@pytest.mark.parametrize("top_k", [1, 3, 1000])
def test_top_k(client: httpx.Client, clip: Drawn, document: ModelDocument, top_k: int) -> None:
    predictions = upload(client, clip.path, top_k=top_k)["predictions"]
    assert predictions == upload(client, clip.path, top_k=1000)["predictions"][:top_k]
    assert len(predictions) == min(top_k, len(document.labels))


def test_all_scores_add_up_to_one(client: httpx.Client, long_clip: Drawn, document: ModelDocument) -> None:
    assert document.score == "softmax"
    predictions = upload(client, long_clip.path, top_k=1000)["predictions"]
    assert {line["label"] for line in predictions} == set(document.labels)
    # Each score is rounded to six digits.
    assert sum(line["score"] for line in predictions) == pytest.approx(1.0, abs=len(predictions) * 1e-6)


def test_the_model_can_be_named(client: httpx.Client, clip: Drawn) -> None:
    assert content(upload(client, clip.path, model=MODEL)) == content(upload(client, clip.path))


def test_start_and_end_cut_the_clip(client: httpx.Client, long_clip: Drawn, document: ModelDocument) -> None:
    answer = upload(client, long_clip.path, start_seconds=1.3, end_seconds=3.1)
    serving = serving_frames(long_clip.timestamps, document.spec.sample_fps, 1.3, 3.1)
    receipt = answer["receipt"]
    assert receipt["frames_used"] == len(set(serving))
    assert receipt["first_seconds"] == pytest.approx(long_clip.timestamps[serving[0]], abs=1e-3)
    assert receipt["last_seconds"] == pytest.approx(long_clip.timestamps[serving[-1]], abs=1e-3)
    assert answer["segments"][0]["start_seconds"] == 1.3
    assert_tiles(answer)


def test_a_given_request_id_comes_back(client: httpx.Client, clip: Drawn) -> None:
    response = client.post(
        PATH, content=clip.path.read_bytes(), headers={"Content-Type": "video/mp4", **asked("a.B-9_")}
    )
    assert response.headers["x-request-id"] == response.json()["request_id"] == "a.B-9_"


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "a;b", "é"])
def test_a_malformed_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    made = client.get("/livez", headers=[(b"X-Request-ID", given.encode())]).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_request_ids_differ(client: httpx.Client) -> None:
    assert len({client.get("/livez").headers["x-request-id"] for _ in range(20)}) == 20


def asked(request_id: str) -> dict[str, str]:
    return {"X-Request-ID": request_id}


def test_server_timing_repeats_timing_ms(client: httpx.Client, clip: Drawn) -> None:
    response = client.post(PATH, content=clip.path.read_bytes(), headers={"Content-Type": "video/mp4"})
    entries = [entry.split(";dur=") for entry in response.headers["server-timing"].split(", ")]
    timing = response.json()["timing_ms"]
    assert [name for name, _ in entries] == list(timing)
    assert {name: float(value) for name, value in entries} == pytest.approx(timing, rel=1e-4)


def test_a_clip_twice_gets_one_answer(client: httpx.Client, long_clip: Drawn) -> None:
    assert content(upload(client, long_clip.path)) == content(upload(client, long_clip.path))


def test_company_changes_no_score(server: Server, clips: list[Path]) -> None:
    """Frames of eight clips share encoder batches; each clip's numbers are those that it gets alone."""
    with server.client() as client:
        alone = [content(upload(client, path, top_k=1000)) for path in clips]

    def ask(path: Path) -> dict[str, Any]:
        with server.client() as client:
            return content(upload(client, path, top_k=1000))

    with ThreadPoolExecutor(len(clips)) as pool:
        for _ in range(2):
            assert list(pool.map(ask, clips)) == alone


def test_the_command_line_gives_the_server_s_answers(
    client: httpx.Client, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELSERVE_FEATURE_CACHE_BYTES", "0")
    result = CliRunner().invoke(app, ["predict", "--json", "--top-k", "5", "--model", MODEL, *map(str, clips)])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.pop("file") for line in lines] == [str(path) for path in clips]
    assert [content(line) for line in lines] == [content(upload(client, path)) for path in clips]


def assert_tiles(answer: dict[str, Any]) -> None:
    """Segments follow each other without a gap, from the first tick to the end, and neighbours differ."""
    segments, receipt = answer["segments"], answer["receipt"]
    starts, ends = ([segment[f"{side}_seconds"] for segment in segments] for side in ("start", "end"))
    assert ends[:-1] == starts[1:]
    assert all(end > start for start, end in zip(starts, ends, strict=True))
    assert all(a["label"] != b["label"] for a, b in zip(segments, segments[1:], strict=False))
    assert ends[-1] == receipt["ticks_end_seconds"]


def test_segments_of_a_long_clip_tile_it(client: httpx.Client, long_clip: Drawn, document: ModelDocument) -> None:
    answer = upload(client, long_clip.path)
    spec = document.spec
    assert spec.window_frames is not None
    assert spec.stride_frames is not None
    assert answer["receipt"]["frames_used"] > spec.window_frames, "the clip is to have more than one window"
    assert answer["segments"][0]["start_seconds"] == 0.0
    assert_tiles(answer)
    for segment in answer["segments"][1:]:
        ticks = segment["start_seconds"] * spec.sample_fps
        assert ticks % spec.stride_frames == 0, "a segment begins where a cell does"


def test_a_short_clip_has_one_segment(client: httpx.Client, clip: Drawn) -> None:
    answer = upload(client, clip.path)
    assert_tiles(answer)
    [segment] = answer["segments"]
    best = answer["predictions"][0]
    assert (segment["start_seconds"], segment["label"], segment["score"]) == (0.0, best["label"], best["score"])
