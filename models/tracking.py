"""Curves of training for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import ModelsError
from models.fit import Track


@contextmanager
def tracked(folder: Path | None) -> Iterator[Track]:
    """Hears of each epoch, and writes event files into `folder`; without one it hears of nothing.

    Raises ModelsError where TensorBoard is not installed.
    """
    if folder is None:
        yield lambda phase, line: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter  # slow, and of an extra
    except ModuleNotFoundError as error:
        raise ModelsError("--tensorboard: TensorBoard is not installed: pip install tensorboard") from error
    with SummaryWriter(folder) as writer:

        def track(phase: str, line: dict[str, float]) -> None:
            for name, value in line.items():
                if name != "epoch":
                    writer.add_scalar(f"{phase.partition(',')[0]}/{name}", value, int(line["epoch"]))
            writer.flush()

        yield track
