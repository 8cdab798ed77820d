"""PyTorch modules become ONNX graphs."""
