"""Checkpoint → ONNX → certificate → bundle."""
