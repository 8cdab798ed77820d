"""Benchmarks: run by hand or by CI, never collected by pytest."""
