"""Settings of a recurrent head, as a recipe has them, and the head that they build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from models import cells
from models.cells import CELLS
from models.heads import Cell, HeadDims, ManyToOne, SequenceHead
from models.initialisation import Initialisation, Recurrent, Weights, initialise, refuse_forget_bias
from models.settings import TABLE

MOST_DROPOUT = 0.99  # with nothing left there is nothing to learn from


@dataclass(frozen=True)
class HeadSettings:
    """Kind, size, regularisation and beginning of the recurrent head; the defaults are those of `actions-lstm`.

    The last three are those of `Initialisation`. Raises CellError for what can't be, before features are extracted.
    """

    __pydantic_config__ = TABLE

    hidden_size: Annotated[int, Field(ge=1, description="Units of a recurrent layer, each way.")] = 64
    pooling: Annotated[ManyToOne, Field(description="How the frames of a window become one answer.")] = "mean"
    cell: Annotated[Cell, Field(description=f"Kind of recurrent layer: {', '.join(CELLS)}.")] = "lstm"
    num_layers: Annotated[int, Field(ge=1, description="Recurrent layers.")] = 1
    bidirectional: Annotated[bool, Field(description="Read both ways; no streaming.")] = False
    input_dropout: Annotated[float, Field(ge=0, le=MOST_DROPOUT, description="Share of features left out.")] = 0.3
    output_dropout: Annotated[
        float, Field(ge=0, le=MOST_DROPOUT, description="Share of what is classified left out.")
    ] = 0.5
    dropout: Annotated[float, Field(ge=0, le=MOST_DROPOUT, description="Between recurrent layers.")] = 0.0
    projection_size: Annotated[
        int, Field(ge=0, description="What features are mapped to before the layers; 0: they are not.")
    ] = 0
    differences: Annotated[bool, Field(description="Beside each row its distance to the one before.")] = False
    input_weights: Annotated[Weights, Field(description="How weights of inputs begin.")] = "torch"
    recurrent_weights: Annotated[Recurrent, Field(description="How weights from step to step begin.")] = "torch"
    forget_bias: Annotated[
        float | None, Field(description="What the bias of the forget gate begins as; not set: as torch draws it.")
    ] = None

    def __post_init__(self) -> None:
        self.dims(1, 1)
        refuse_forget_bias(self.forget_bias, [cells.named(self.cell)])

    def dims(self, feature_size: int, num_labels: int, *, every_tick: bool = False) -> HeadDims:
        """every_tick: many-to-many, whatever the pooling. Raises CellError."""
        return HeadDims(
            feature_size,
            self.hidden_size,
            num_labels,
            "none" if every_tick else self.pooling,
            self.cell,
            self.num_layers,
            self.bidirectional,
            self.dropout,
            self.projection_size,
            self.differences,
        )

    def build(self, feature_size: int, num_labels: int, *, every_tick: bool = False) -> SequenceHead:
        """A fresh head; seed torch before. Raises CellError."""
        dims = self.dims(feature_size, num_labels, every_tick=every_tick)
        head = SequenceHead(dims, self.input_dropout, self.output_dropout)
        initialise(head, Initialisation(self.input_weights, self.recurrent_weights, self.forget_bias))
        return head
