"""Batch inference: one clip to a hundred thousand, on this machine or on many."""
