"""Bits of a header, from the most significant."""

from __future__ import annotations


class Bits:
    """A reader over few bytes; past their end it raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """The next `count` bits as a number."""
        if count > self._left:
            raise ValueError("the header is cut short")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def exp_golomb(self) -> int:
        """ue(v): H.264 and H.265, clause 9.1 and 9.2."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def signed_exp_golomb(self) -> int:
        """se(v)."""
        code = self.exp_golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)
