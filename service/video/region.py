"""A part of the picture: what is seen of it, before any resize."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.errors import BadParameter
from service.video.errors import RegionOutside
from service.video.orientation import Orientation

Image = NDArray[np.uint8]

# x, y, width, height as numbers without an exponent, which no picture needs.
_NUMBER = r"\s*(\d{1,9}(?:\.\d{0,15})?|\.\d{1,15})\s*"
_FOUR = re.compile(",".join([_NUMBER] * 4), re.ASCII)
_ROUNDING = 1e-9


class Region(BaseModel):
    """A rectangle of the upright picture, from its upper left corner.

    In fractions of its width and height where no number is above 1, else in pixels: stored ones, upright, as
    `width` and `height` of a receipt count them. A side of one pixel is therefore a fraction: all of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: float = Field(ge=0, allow_inf_nan=False)
    y: float = Field(ge=0, allow_inf_nan=False)
    width: float = Field(gt=0, allow_inf_nan=False)
    height: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _within_what_fractions_can_be(self) -> Region:
        if self.is_fraction and max(self.x + self.width, self.y + self.height) > 1 + _ROUNDING:
            raise ValueError(f"{self} is in fractions, and goes beyond 1: x + width and y + height are at most 1")
        if not self.is_fraction and any(side != int(side) for side in (self.x, self.y, self.width, self.height)):
            raise ValueError(f"{self} is in pixels, as a number is above 1: give whole ones")
        return self

    @classmethod
    def parse(cls, text: str) -> Region:
        """Of `x,y,width,height`. Raises BadParameter."""
        found = _FOUR.fullmatch(text)
        if found is None:
            raise BadParameter(
                f"region is {text!r}; give four numbers x,y,width,height, all in pixels or all in fractions of the "
                "upright picture, as 0.25,0.5,0.5,0.5",
                value=text,
            )
        x, y, width, height = map(float, found.groups())
        if not (width and height):
            raise BadParameter(f"region {text} is empty; give it a width and a height", value=text)
        try:
            return cls(x=x, y=y, width=width, height=height)
        except ValueError as error:  # pydantic's, around one sentence of ours
            said = str(error).partition("error, ")[2].partition(" [type=")[0]
            raise BadParameter(f"region {said}", value=text) from error

    @property
    def is_fraction(self) -> bool:
        """Whether its numbers are fractions of the picture's sides, not pixels."""
        return max(self.x, self.y, self.width, self.height) <= 1

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """left, top, width, height in pixels of an upright picture; fractions go to the nearest pixel, at least one.

        Raises RegionOutside.
        """
        across, down = (width, height) if self.is_fraction else (1, 1)
        left, right = round(self.x * across), round((self.x + self.width) * across)
        top, bottom = round(self.y * down), round((self.y + self.height) * down)
        if self.is_fraction:
            left, top = min(left, width - 1), min(top, height - 1)
            right, bottom = max(right, left + 1), max(bottom, top + 1)
        if right > width or bottom > height:
            raise RegionOutside(
                f"region {self} goes beyond the picture, which is {width} x {height} pixels upright; give a smaller "
                "one, or fractions",
                value=str(self),
                limit=f"{width}x{height}",
            )
        return left, top, right - left, bottom - top

    def of(self, picture: Image, orientation: Orientation) -> Image:
        """Of a stored picture (h, w, 3): the stored pixels that are the region once it is turned, as a view."""
        rows, columns = picture.shape[:2]
        upright = (rows, columns) if orientation.swaps_sides else (columns, rows)
        left, top, width, height = self.pixels(*upright)
        # Turned back: a quarter at a time, a rectangle's lower left corner becomes its upper left one.
        box = (left, top, width, height)
        for _ in range(orientation.rotation_degrees // 90):
            left, top, width, height = box
            upright = (upright[1], upright[0])
            box = (top, upright[1] - left - width, height, width)
        left, top, width, height = box
        if orientation.mirrored:
            left = columns - left - width
        return picture[top : top + height, left : left + width]

    def __str__(self) -> str:
        return ",".join(f"{number:.12g}" for number in (self.x, self.y, self.width, self.height))
