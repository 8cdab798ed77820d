"""Pixels that are trained on, changed at random: what does not change the label must not change the answer.

A window is changed as a whole, all of its frames alike, as another camera would have filmed it: what moves between
frames stays what it was (Simonyan and Zisserman 2014, arXiv 1406.2199, section 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.fit_settings import FitSettings

_WHITE = 255.0


def augmented(pixels: Tensor, settings: FitSettings, generator: torch.Generator) -> Tensor:
    """Windows of pixels (N, T, 3, H, W), float32 from 0 to 255 → as many, each mirrored with a chance of a half
    (`flip`), moved by up to `shift_pixels` up, down and aside, its edge repeated, and its brightness multiplied by up
    to 1 ± `brightness`. All chance is the generator's.
    """
    number, _, _, height, width = pixels.shape
    rows, columns = torch.arange(height).expand(number, -1), torch.arange(width).expand(number, -1)
    if settings.flip:
        mirrored = torch.rand(number, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    if settings.shift_pixels:
        down, right = torch.randint(
            -settings.shift_pixels, settings.shift_pixels + 1, (2, number, 1), generator=generator
        )
        rows, columns = (rows + down).clamp(0, height - 1), (columns + right).clamp(0, width - 1)
    found = torch.stack([
        window.index_select(2, row).index_select(3, column)
        for window, row, column in zip(pixels, rows, columns, strict=True)
    ])  # fmt: skip
    if settings.brightness:
        factors = 1 + settings.brightness * (2 * torch.rand(number, 1, 1, 1, 1, generator=generator) - 1)
        found = (found * factors).clamp(0, _WHITE)
    return found
