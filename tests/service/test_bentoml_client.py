"""BentoML's own client against the real server, and what its file fields must not do here."""

from __future__ import annotations

from collections.abc import Iterator

import bentoml
import httpx
import pytest

from service.results import Prediction
from tests.drawn import Drawn
from tests.server import Listener, Server, problem

# BentoML's own code, imported with the first client, uses what others have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def bento(server: Server) -> Iterator[bentoml.SyncHTTPClient]:
    with bentoml.SyncHTTPClient(server.url) as opened:
        yield opened
        opened._temp_dir.cleanup()  # its own close leaves it to the garbage collector, which warns


def test_predict(server: Server, client: httpx.Client, bento: bentoml.SyncHTTPClient, clip: Drawn) -> None:
    answer = Prediction.model_validate(bento.predict(video=clip.path))
    with clip.path.open("rb") as file:
        ours = Prediction.model_validate(client.post("/v1/predict", files={"video": file}).json())
    of_the_request = {"request_id", "timing_ms"}
    assert answer.model_dump(exclude=of_the_request) == ours.model_dump(exclude=of_the_request)
    server.assert_spool_is_empty()


def test_an_address_in_place_of_a_file_is_not_fetched(server: Server, client: httpx.Client) -> None:
    """BentoML itself would fetch it: whoever may upload could make the server call any address."""
    with Listener() as listener:
        as_text = client.post("/predict", files={"video": (None, listener.url.encode())})
        problem(as_text, 400, "no_file")
        problem(client.post("/predict", json={"video": listener.url}), 415, "unsupported_media_type")
        form = client.post("/predict", data={"video": listener.url})
        problem(form, 415, "unsupported_media_type")
        assert not listener.was_called()
    server.assert_spool_is_empty()


def test_its_client_sends_no_address_through_either(server: Server, bento: bentoml.SyncHTTPClient) -> None:
    with Listener() as listener:
        with pytest.raises(bentoml.exceptions.BentoMLException):
            bento.predict(video=listener.url)
        assert not listener.was_called()
    server.assert_spool_is_empty()


def test_its_own_paths_still_answer(client: httpx.Client) -> None:
    assert client.get("/schema.json").json()["routes"][0]["route"] == "/predict"
    assert client.get("/docs.json").status_code == 200
