"""LitServe as its documentation has it: the four steps of a LitAPI, with batching as in the docstring of `LitAPI`.

https://lightning.ai/docs/litserve/features/batching
The clip comes as base64 in JSON: an upload of more than 1 MB in a form can't be pickled for its worker process
(litserve 0.2.19: "cannot pickle '_io.BufferedRandom' object", and the request is never answered).
`python -m tests.bench.peers.litserve_service PORT`
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

import litserve as ls

from tests.bench.peers.clip_model import ClipModel, DecodedClip, Prediction, answer, decode


class ClipAPI(ls.LitAPI):  # type: ignore[misc]  # a class without types
    """A batch is a list of decoded clips."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.model = ClipModel.from_environment()

    def decode_request(self, request) -> DecodedClip:  # type: ignore[no-untyped-def]  # LitServe reads the annotation
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(base64.b64decode(request["video"]))
            file.flush()
            return decode(Path(file.name), self.model.spec)

    def batch(self, inputs: list[DecodedClip]) -> list[DecodedClip]:
        return inputs

    def predict(self, batch: list[DecodedClip]) -> list[list[Prediction]]:
        return self.model.predict(batch)

    def unbatch(self, output: list[list[Prediction]]) -> list[list[Prediction]]:
        return output

    def encode_response(self, output: list[Prediction]) -> dict[str, Any]:
        return answer(output)


if __name__ == "__main__":
    server = ls.LitServer(ClipAPI(max_batch_size=8, batch_timeout=0.1), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
