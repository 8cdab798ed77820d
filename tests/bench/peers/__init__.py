"""Servers that ours is measured against: as their documentation leads to, with our weights, sampling and answers."""
