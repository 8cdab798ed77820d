"""What can go wrong before export. A command prints it as one red line and leaves with exit code 1.

ModelsError
├── DatasetError      the manifest, the tree or the labels
├── FeatureError      the clips or the stored features
├── RecipeError       a recipe, or a flag over it
├── EvaluationError   a checkpoint that can't be evaluated so
├── CheckpointError   a file that is none of ours (models.checkpoint)
├── CellError         a recurrent layer (models.cells)
├── EncoderError      an encoder or its weights (models.encoders)
├── OutOfDeviceMemoryError  a batch does not fit into the memory of a GPU
└── NotFiniteError    training left the finite numbers (also a FloatingPointError)
"""

from __future__ import annotations


class ModelsError(ValueError):
    """Root of the tree. The message names the value, the limit and the remedy."""


class DatasetError(ModelsError):
    """The manifest, the tree or its labels are wrong; the message names file, line and remedy."""


class FeatureError(ModelsError):
    """Too many clips are broken, or the store of features can't be used."""


class RecipeError(ModelsError):
    """A recipe is wrong; the message names file or flag, key, value, limit and remedy."""


class EvaluationError(ModelsError):
    """The checkpoint can't be evaluated in the way that was asked for."""


class OutOfDeviceMemoryError(ModelsError):
    """A batch of training does not fit; the message names its windows, and what makes them fewer or smaller."""


class NotFiniteError(ModelsError, FloatingPointError):
    """A loss, a gradient or a weight is not finite; nothing is saved."""
