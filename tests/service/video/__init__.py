"""Tests of service.video: grid, windows, frames, decode, spec."""
