"""Models of one process beside each other: what they share, what they take, and what is refused for want of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.bundle import file_sha256
from service.engine.heads import Head
from service.listing import lines_of
from service.model_errors import ModelNotLoaded
from service.pipeline import ClipRequest
from service.serving import Serving
from service.settings import MIB, Settings
from tests.bundles import copy_of_the_zoo, on_another_encoder
from tests.real_clips import real_clip
from tests.zoo import DOCUMENT, TRAINED

ALONE = {"encoder_threads": 1, "max_clips_in_progress": 1, "feature_cache_bytes": 0}


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """`a` and `b` on one encoder, `c` on another."""
    for name in ("a", "b"):
        copy_of_the_zoo(tmp_path, name)
    on_another_encoder(tmp_path, "c")
    return tmp_path


def served(zoo: Path, **settings: object) -> Iterator[Serving]:
    serving = Serving(Settings(models_dir=zoo, **(ALONE | settings)))  # type: ignore[arg-type]
    try:
        serving.load()
        yield serving
    finally:
        serving.close()


def label(serving: Serving, name: str | None) -> str:
    path = real_clip("bikes.mp4")
    [answer] = serving.predict(ClipRequest(path, file_sha256(path)), [serving.model(name)])
    return answer.predictions[0].label


def used(monkeypatch: pytest.MonkeyPatch, *mebibytes: int) -> None:
    """Made up, one for each load: of a process that has run other tests nobody knows what a load adds.

    Nor is it measured then: what was freed before is taken again, and an encoder would seem to need nothing.
    """
    left = iter(mebibytes)
    monkeypatch.setattr("service.engine.footprint.Expectations.learn", lambda *_: None)
    monkeypatch.setattr("service.memory.resident_bytes", lambda: next(left) * MIB)


def test_the_default_model_alone_is_loaded(zoo: Path) -> None:
    for serving in served(zoo, default_model="b"):
        assert list(serving.models) == ["b"]
        assert serving.problem() is None
        assert label(serving, None) == label(serving, "b")
        with pytest.raises(ModelNotLoaded) as caught:
            serving.model("a")
        assert caught.value.detail == (
            f"model a {TRAINED.name} exists and is not loaded: the setting models leaves it out; "
            "REELSERVE_MODELS=b,a loads it"
        )


def test_models_on_one_encoder_have_one_session_and_count_it_once(zoo: Path) -> None:
    for serving in served(zoo, models="all", default_model="a"):
        a, b, c = (serving.models[name] for name in "abc")
        assert a.batcher is b.batcher
        assert a.batcher is not c.batcher
        footprints = {name: serving.loader.footprint(serving.registry.get(name)) for name in "abc"}
        assert footprints["a"].encoder == footprints["b"].encoder
        assert all(each.encoder_loaded for each in footprints.values())
        lines = {line.name: line for line in lines_of(serving)}
        assert {line.status for line in lines.values()} == {"ready"}
        assert (lines["b"].encoder, lines["c"].encoder) == (DOCUMENT.encoder.name, "other")


def test_a_shared_encoder_fits_where_another_does_not(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """230 MiB and a clip leave 26 MiB of 320: enough for a head, and not for an encoder."""
    used(monkeypatch, 100, 230, 230)
    for serving in served(zoo, models="all", default_model="a", memory_limit_bytes=320 * MIB):
        assert list(serving.models) == ["a", "b"]
        reason = serving.registry.unloaded["c"]
        assert reason.startswith("it would not fit into memory: it needs ")
        assert "for its encoder other), and 26.0 MiB are free: the limit is 320.0 MiB (the setting memory_lim" in reason
        assert "230.0 MiB are used, 64.0 MiB are kept for open clips" in reason
        assert reason.endswith("or leave a model out of the setting models")
        assert serving.problem() is None, "it was not asked for by name"
        with pytest.raises(
            ModelNotLoaded, match=f"c {TRAINED.name} exists and is not loaded: it would not fit into memory"
        ):
            serving.model("c")
        assert label(serving, "a") == label(serving, "b")


def test_with_more_memory_it_fits(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used(monkeypatch, 100, 230, 230)
    for serving in served(zoo, models="all", default_model="a", memory_limit_bytes=1024 * MIB):
        assert list(serving.models) == ["a", "b", "c"]


def test_a_model_that_was_named_and_does_not_fit_makes_the_service_unready(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(monkeypatch, 100, 230)
    for serving in served(zoo, models="a,c", memory_limit_bytes=320 * MIB):
        assert (serving.problem() or "").startswith(
            "c of the setting models is not loaded: it would not fit into memor"
        )
        assert label(serving, "a"), "what fits answers all the same"


def test_a_default_model_that_does_not_fit(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used(monkeypatch, 230)
    for serving in served(zoo, default_model="a", memory_limit_bytes=320 * MIB):
        assert serving.models == {}
        assert (serving.problem() or "").startswith("default_model a is not loaded: it would not fit into memory")
        with pytest.raises(ModelNotLoaded, match="would not fit"):
            serving.model(None)


def test_models_beside_the_first_leave_room_for_all_open_clips(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used(monkeypatch, 100, 230)
    settings = {"models": "a,b", "memory_limit_bytes": 320 * MIB, "max_clips_in_progress": 2}
    for serving in served(zoo, default_model="a", **settings):
        assert list(serving.models) == ["a"]
        assert "0.0 MiB are free: " in serving.registry.unloaded["b"]
        assert f"its encoder {DOCUMENT.encoder.name} is loaded" in serving.registry.unloaded["b"]
        assert "128.0 MiB are kept for open clips" in serving.registry.unloaded["b"]


def test_a_load_beside_those_that_serve_leaves_them_serving(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a hot reload would ask for it: refused first, and taken once there is room."""
    used(monkeypatch, 100, 230, 230, 100)
    for serving in served(zoo, default_model="a", memory_limit_bytes=320 * MIB):
        before = label(serving, "a")
        other = serving.registry.get("c")
        assert "26.0 MiB are free" in serving.loader.misfit(other)
        assert serving.loader.misfit(serving.registry.get("b")) == ""
        assert serving.loader.misfit(other) == ""
        assert (list(serving.models), label(serving, "a")) == (["a"], before)


def test_a_load_that_fails_keeps_no_encoder(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Head.scores

    def failing(head: Head, *given: object) -> object:
        if head.model.name == "c":
            raise RuntimeError("no kernel")
        return scores(head, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Head, "scores", failing)
    for serving in served(zoo, models="all", default_model="a"):
        assert "no kernel" in serving.registry.refused["c"].reason
        assert "c" not in serving.registry.unloaded
        assert len(serving.loader._engines) == 1


def test_an_unknown_name_loads_nothing(zoo: Path) -> None:
    serving = Serving(Settings(models_dir=zoo, models="a,d"))
    serving._load_and_report(lambda: None)
    try:
        assert serving.problem() == "the setting models: no model is named 'd'; there are: a, b, c"
        assert serving.models == {}
    finally:
        serving.close()
