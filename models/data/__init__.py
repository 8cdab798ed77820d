"""Clips before training: manifests, splits, checks, decoded features, windows."""
