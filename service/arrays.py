"""Arrays of a bundle: .npz files without pickle, read and checked against the documents beside them."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BundleError

# By name: element type, and the length of each axis, None where any will do.
Shapes = Mapping[str, tuple[type[np.generic], tuple[int | None, ...]]]


def npz_bytes(**arrays: NDArray[Any]) -> bytes:
    """Compressed; the same arrays give the same bytes."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def read_npz(path: Path, shapes: Shapes) -> dict[str, NDArray[Any]]:
    """The arrays of `shapes`, in its order. Raises BundleError, which names the file and the first wrong array."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            found = {name: content[name] for name in shapes}
    except (KeyError, OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{path} can't be read: {error}; export the bundle again") from error
    for name, (kind, shape) in shapes.items():
        array = found[name]
        fits = array.ndim == len(shape) and all(
            wanted in (None, has) for has, wanted in zip(array.shape, shape, strict=True)
        )
        if array.dtype != kind or not fits or array.size == 0:
            wanted_shape = ", ".join("any" if axis is None else str(axis) for axis in shape)
            raise BundleError(
                f"{path}: {name} is {array.dtype} {array.shape}, the documents beside it need {np.dtype(kind)} "
                f"({wanted_shape}); export the bundle again"
            )
    return found
