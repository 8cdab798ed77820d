"""Everything before ONNX: networks, clips, stored features, training, evaluation, checkpoints (torch)."""
