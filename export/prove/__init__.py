"""Each graph against PyTorch in float64, line by line: the certificate."""
