"""POST /v1/probe on a real server."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.bundle import ModelDocument
from tests.conftest import MAX_UPLOAD_BYTES
from tests.drawn import Drawn, animated_webp, draw
from tests.real_clips import NAMES, real_clip
from tests.server import MIB, Server, problem, serve, wait_until
from tests.zoo import MODEL

PATH = "/v1/probe"
MP4 = {"Content-Type": "video/mp4"}


@pytest.fixture(autouse=True)
def _nothing_stays(server: Server) -> Iterator[None]:
    yield
    server.assert_spool_is_empty()


def test_a_clip(client: httpx.Client, clip: Drawn, document: ModelDocument) -> None:
    response = client.post(PATH, files={"video": clip.path.read_bytes()})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["request_id"] == response.headers["x-request-id"]
    assert answer["sha256"] == hashlib.sha256(clip.path.read_bytes()).hexdigest()
    video = answer["video"]
    assert (video["container"], video["codec"], video["width"], video["height"]) == ("MPEG-4", "h264", 320, 240)
    assert video["header"] == {"num_frames": 50, "duration_seconds": 2.0, "fps": 25.0}
    assert (video["decodable"], video["refusal"], video["walk"]) == (True, None, None)
    assert answer["model"] == MODEL
    assert answer["cost"]["basis"] == "header"
    assert document.spec.sample_fps is not None
    assert answer["cost"]["ticks"] == int(1.96 * document.spec.sample_fps) + 1
    assert answer["cost"]["decode_milliseconds"] > 0
    assert [finding["code"] for finding in answer["findings"]] == ["index_last"]
    assert answer["mend"] == "ffmpeg -i INPUT -c copy -movflags +faststart OUTPUT.mp4"


def test_a_full_walk_from_a_raw_body(client: httpx.Client, long_clip: Drawn) -> None:
    answer = client.post(PATH, content=long_clip.path.read_bytes(), headers=MP4, params={"full": True}).json()
    walk = answer["video"]["walk"]
    assert (walk["num_frames"], walk["rate"], walk["fps"]) == (263, "constant", 25.0)
    assert answer["cost"]["basis"] == "walk"


@pytest.mark.parametrize("name", NAMES)
def test_the_forecast_is_what_predict_does(client: httpx.Client, name: str) -> None:
    clip = {"video": real_clip(name).read_bytes()}
    cost = client.post(PATH, files=clip, params={"full": True}).json()["cost"]
    receipt = client.post("/v1/predict", files=clip).json()["receipt"]
    assert (cost["ticks"], cost["frames_encoded"]) == (receipt["ticks"], receipt["frames_used"])
    assert cost["frames_decoded"] == receipt["frames_walked"]


def test_what_predict_refuses_is_an_answer(client: httpx.Client) -> None:
    clip = {"video": animated_webp()}
    refused = problem(client.post("/v1/predict", files=clip), 415, "codec_not_supported")
    answer = client.post(PATH, files=clip).json()
    assert answer["video"]["decodable"] is False
    assert answer["video"]["refusal"]["code"] == "codec_not_supported"
    assert answer["video"]["refusal"]["detail"] == refused["detail"]
    assert answer["cost"] is None
    assert answer["findings"][0]["severity"] == "error"
    assert answer["mend"] is None  # nor does ffmpeg read it


@pytest.mark.parametrize(
    ("status", "code", "sent", "params"),
    [
        (422, "not_a_video", {"files": {"video": b"This is not a video."}}, {}),
        (400, "empty_file", {"files": {"video": ("c.mp4", b"")}}, {}),
        (400, "no_file", {"files": {"clip": b"x"}}, {}),
        (415, "unsupported_media_type", {"content": b"{}", "headers": {"Content-Type": "application/json"}}, {}),
        (404, "unknown_model", {"files": {"video": b"x"}}, {"model": "nobody"}),
        (400, "bad_parameter", {"files": {"video": b"x"}, "data": {"model": "a"}}, {"model": MODEL}),
        (413, "too_large", {"content": bytes(MAX_UPLOAD_BYTES + 1), "headers": MP4}, {}),
    ],
)
def test_refusals_are_those_of_predict(
    client: httpx.Client, status: int, code: str, sent: dict[str, Any], params: dict[str, str]
) -> None:
    ours, theirs = (problem(client.post(path, params=params, **sent), status, code) for path in (PATH, "/v1/predict"))
    assert ours["detail"] == theirs["detail"]


def test_a_parameter_is_checked(client: httpx.Client) -> None:
    body = problem(client.post(PATH, files={"video": b"x"}, params={"full": "perhaps"}), 400, "bad_parameter")
    assert "full" in body["detail"]


def test_nothing_is_inferred(server: Server, client: httpx.Client, clip: Drawn) -> None:
    before = server.samples()["reelserve_encode_batch_frames_sum"]
    assert client.post(PATH, files={"video": clip.path.read_bytes()}, params={"full": True}).status_code == 200
    assert server.samples()["reelserve_encode_batch_frames_sum"] == before


def test_a_client_that_goes_away_ends_its_probe(server: Server, tmp_path: Path) -> None:
    content = draw(tmp_path / "clip.mp4", 1000, width=640, height=480, b_frames=2).path.read_bytes()
    assert len(content) < 4 * MIB
    with socket.create_connection((server.host, server.port)) as connection:
        lines = ("Host: x", "Content-Type: video/mp4", f"Content-Length: {len(content)}")
        head = "\r\n".join((f"POST {PATH}?full=true HTTP/1.1", *lines, "", ""))
        connection.sendall(head.encode() + content)
        wait_until(lambda: server.samples()["reelserve_requests_in_flight"] == 1, "the upload to begin")
    wait_until(lambda: server.samples()["reelserve_requests_in_flight"] == 0, "the probe to end")
    wait_until(lambda: server.samples()["reelserve_videos_open"] == 0, "its decode process to end")


def test_limits_are_the_servers(tmp_path: Path, clip: Drawn) -> None:
    (tmp_path / "server").mkdir()
    with serve(tmp_path / "server", max_frame_pixels=5000) as small, small.client() as client:
        answer = client.post(PATH, files={"video": clip.path.read_bytes()}).json()
    assert answer["video"]["refusal"]["code"] == "too_many_pixels"
    assert "-vf scale=80:60" in answer["mend"]


def test_the_documentation_describes_it(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"][PATH]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {"model", "stream", "full"}
    assert set(operation["responses"]) >= {"200", "400", "404", "413", "415", "422", "503"}
