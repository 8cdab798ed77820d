"""Served against trained: the HTTP answer for every test clip beside the PyTorch checkpoint's own score.

Both decode for themselves; the checkpoint runs unfolded in PyTorch. Run:
`python -m tests.bench agreement CHECKPOINT MANIFEST SPLIT`.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from models.checkpoint import Checkpoint
from models.data.features import extract
from models.data.manifests import read
from models.data.windowed import windowed
from models.served import clip_scores
from service.video.pool import DecodePool
from tests.server import serve


def served(url: str, path: Path, labels: tuple[str, ...]) -> NDArray[np.float64]:
    """Scores by label over HTTP."""
    content = path.read_bytes()
    headers = {"Content-Type": "video/mp4"}
    answer = httpx.post(url, content=content, params={"top_k": len(labels)}, headers=headers, timeout=120)
    answer.raise_for_status()
    scores = {line["label"]: line["score"] for line in answer.json()["predictions"]}
    return np.array([scores[label] for label in labels])


def main(checkpoint_path: str, manifest: str, split: str) -> None:
    """Print agreement, largest difference and accuracy."""
    checkpoint = Checkpoint.load(Path(checkpoint_path))
    clips = [clip for clip in read(Path(manifest), split) if clip.split == "test"]
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(Path(folder), default_model=checkpoint.name) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        url = f"{server.url}/v1/predict"
        answers = list(
            track(pool.map(lambda clip: served(url, clip.path, checkpoint.labels), clips), "serving", total=len(clips))
        )
    encoder, head = checkpoint.encoder(), checkpoint.head()
    agreed, right, worst = 0, 0, 0.0
    with DecodePool(num_credits=1) as decoders:
        features_of = [
            extract(clip.path, encoder, checkpoint.spec, decoders) for clip in track(clips, "PyTorch", total=len(clips))
        ]
    for clip, answer, features in zip(clips, answers, features_of, strict=True):
        with torch.inference_mode():
            wanted = clip_scores(head, windowed([features], torch.tensor([0]), checkpoint.spec))[0]
        agreed += int(answer.argmax() == wanted.argmax())
        right += int(checkpoint.labels[int(answer.argmax())] == clip.label)
        worst = max(worst, float(np.abs(answer - wanted).max()))
    print(f"{len(clips)} test clips of {split}: top-1 agreement {agreed / len(clips):.2%}")
    print(f"largest score difference: {worst:.2g}")
    print(f"accuracy over HTTP: {right / len(clips):.2%}")
