"""The model that ships and is the default: what tests and benchmarks measure on, whichever version it is at."""

from __future__ import annotations

from pathlib import Path

from service.bundle import ModelDocument, read_document

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "models" / "zoo"
ENCODERS = ZOO / "encoders"
MODEL = "actions-lstm"
TRAINED = max((path.parent for path in (ZOO / MODEL).glob("*/model.json")), key=lambda folder: int(folder.name))
DOCUMENT = read_document(TRAINED / "model.json", ModelDocument)
TRAINED_ENCODER = ENCODERS / DOCUMENT.encoder.name
