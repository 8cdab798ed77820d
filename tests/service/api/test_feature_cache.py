"""The feature cache over HTTP: a clip that comes again, or to another model or window, is not decoded again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.results import Predictions
from tests.bundles import copy_of_the_zoo
from tests.drawn import Drawn, draw
from tests.server import Server, serve

MP4 = {"Content-Type": "video/mp4"}


@pytest.fixture(scope="module")
def caching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two models on one encoder, `a` and `b`, and the cache as it is by default; every answer is checked, alone."""
    models_dir = tmp_path_factory.mktemp("zoo")
    for name in ("a", "b"):
        copy_of_the_zoo(models_dir, name)
    folder = tmp_path_factory.mktemp("caching")
    with serve(folder, models_dir=models_dir, models="a,b", default_model="a", shadow_one_in=1) as running:
        yield running


def new_clip(folder: Path, seed: int) -> bytes:
    """20 s that no other test has sent."""
    return draw(folder / f"{seed}.mp4", num_frames=80 + seed, fps=4, width=64, height=64).path.read_bytes()


def send(server: Server, clip: bytes, **query: object) -> httpx.Response:
    params = {name: str(value) for name, value in query.items()}
    with server.client() as client:
        return client.post("/v1/predict", params=params, content=clip, headers=MP4).raise_for_status()


def cache(answer: httpx.Response) -> str:
    outcome: str = answer.json()["receipt"]["cache"]
    return outcome


def content(answer: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on the cache."""
    return {
        "predictions": answer["predictions"],
        "segments": answer["segments"],
        "warnings": answer["warnings"],
        "receipt": {name: value for name, value in answer["receipt"].items() if name != "cache"},
    }


def counts(server: Server) -> tuple[float, float, float]:
    """Frames encoded, hits, misses."""
    samples = server.samples()
    lookups = "reelserve_feature_cache_lookups_total"
    return (
        samples.get("reelserve_encode_batch_frames_sum", 0),
        samples.get(f'{lookups}{{outcome="hit"}}', 0),
        samples.get(f'{lookups}{{outcome="miss"}}', 0),
    )


def test_a_clip_that_comes_again_is_answered_alike_without_a_frame(caching: Server, tmp_path: Path) -> None:
    clip = new_clip(tmp_path, 1)
    first = send(caching, clip)
    frames, hits, misses = counts(caching)
    again = send(caching, clip)
    assert (cache(first), cache(again)) == ("miss", "hit")
    assert content(again.json()) == content(first.json())
    assert counts(caching) == (frames, hits + 1, misses)
    timing = again.json()["timing_ms"]
    assert (timing["probe"], timing["decode"], timing["encode"]) == (0, 0, 0)
    assert caching.samples()["reelserve_feature_cache_bytes"] > 0


@pytest.mark.parametrize(
    "query",
    [{"model": "b"}, {"window": 4, "stride": 1}, {"top_k": 1}, {"smoothing": 3}, {"min_score": 0.5}],
    ids=lambda query: next(iter(query)),
)
def test_another_model_or_window_decodes_nothing(
    caching: Server, tmp_path: Path, query: dict[str, object], request: pytest.FixtureRequest
) -> None:
    clip = new_clip(tmp_path, 2 + len(request.node.name) % 7)
    send(caching, clip)
    frames, _, _ = counts(caching)
    assert cache(send(caching, clip, **query)) == "hit"
    assert counts(caching)[0] == frames


def test_other_frames_are_decoded(caching: Server, tmp_path: Path) -> None:
    clip = new_clip(tmp_path, 10)
    assert cache(send(caching, clip)) == "miss"
    for query in ({"start_seconds": 1}, {"end_seconds": 9}, {"strict": True}):
        assert cache(send(caching, clip, **query)) == "miss"
    assert cache(send(caching, clip)) == "hit"


def test_several_models_share_one_pass(caching: Server, tmp_path: Path) -> None:
    clip = new_clip(tmp_path, 11)
    frames, _, misses = counts(caching)
    answer = send(caching, clip, model="b,a")
    together = Predictions.model_validate(answer.json(), extra="forbid")
    assert [prediction.model.name for prediction in together.results] == ["b", "a"]
    assert counts(caching) == (frames + together.results[0].receipt.frames_used, counts(caching)[1], misses + 1)
    alone = send(caching, clip, model="a")
    assert content(answer.json()["results"][1]) == content(alone.json())
    stages = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    heads = [prediction.timing_ms.head for prediction in together.results]
    assert float(stages["head"]) == pytest.approx(sum(heads), abs=0.01)
    assert float(stages["decode"]) == together.results[0].timing_ms.decode


@pytest.mark.parametrize(("models", "code"), [("a,no-such", "unknown_model"), ("a,a", "bad_parameter")])
def test_names_that_are_wrong(caching: Server, clip: Drawn, models: str, code: str) -> None:
    with caching.client() as client:
        answer = client.post("/v1/predict", params={"model": models}, content=clip.path.read_bytes(), headers=MP4)
    assert answer.json()["code"] == code


def test_every_answer_came_out_the_same_alone(caching: Server, tmp_path: Path) -> None:
    """The shadow check recomputes what these tests were answered with; answers of the cache have no frames to check."""
    send(caching, new_clip(tmp_path, 12))
    samples = caching.samples()
    assert samples["reelserve_shadow_checks_total"] >= 1
    assert samples['reelserve_shadow_difference_max{part="features"}'] <= 1e-4
    assert samples['reelserve_shadow_difference_max{part="scores"}'] <= 1e-4
    assert "computed alone" not in caching.log.read_text()
