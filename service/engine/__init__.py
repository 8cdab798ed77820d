"""Frames to features to scores: the frame batcher, ONNX Runtime sessions, heads."""
