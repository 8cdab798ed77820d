"""Comparisons: methods, hyperparameters, sizes and rates."""
