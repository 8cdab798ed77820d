"""Settings of a recipe that do not go together, said before clips are decoded and not after."""

from __future__ import annotations

from torch import nn

from models import optimisation
from models.encoders import ImageEncoder, MapsOf
from models.errors import RecipeError
from models.recipe import Recipe
from models.tasks import TASKS, LossSettings

_PIXELS = (
    "what is stored is no pixels; leave it out, or train all of the encoder (train_from, its first stage; `small-16` "
    "is made for that)"
)


def refuse_contradictions(recipe: Recipe) -> None:
    """Raises RecipeError for what training would refuse, or pass over, once features are there."""
    fit, task = recipe.fit, TASKS[recipe.task.kind]
    if fit.mixed_precision != "off" and recipe.encoder.train_from is None:
        raise RecipeError(
            f"mixed_precision is {fit.mixed_precision!r}, and the encoder is frozen: heads compute in float32; "
            "leave it out, or train stages of the encoder (train_from)"
        )
    if fit.augments and recipe.encoder.train_from is None:
        raise RecipeError(f"{_set(recipe)}, and the encoder is frozen: {_PIXELS}")
    if recipe.encoder.head_epochs and recipe.encoder.train_from is None:
        raise RecipeError(
            f"head_epochs is {recipe.encoder.head_epochs}, and the encoder is frozen: the head is trained alone in all "
            "epochs; leave it out, or train stages of the encoder (train_from)"
        )
    if recipe.encoder.head_epochs >= fit.epochs:
        raise RecipeError(
            f"head_epochs is {recipe.encoder.head_epochs}, of {fit.epochs} epochs: no stage would be trained; lower "
            "it, or raise epochs"
        )
    if fit.truncate_ticks is not None and recipe.head.bidirectional:
        raise RecipeError(
            f"truncate_ticks is {fit.truncate_ticks}, and the head is bidirectional: it reads windows whole, with no "
            "state to carry from piece to piece; leave one of the two out"
        )
    if fit.class_weights == "balanced" and not task.has_classes:
        raise RecipeError(f"class_weights is `balanced`, and the task `{task.name}` has no classes; leave it out")
    task.window_loss(LossSettings(fit.loss, fit.label_smoothing), None)
    optimisation.build_schedule(optimisation.build_optimizer(nn.Linear(1, 1), fit), fit)


def refuse_augmented_maps(recipe: Recipe, encoder: ImageEncoder) -> None:
    """Raises RecipeError where pixels were to be changed at random and maps of a later stage are trained on."""
    stage = recipe.encoder.train_from
    if recipe.fit.augments and stage is not None and not MapsOf(encoder, stage).of_pixels:
        raise RecipeError(f"{_set(recipe)}, and training begins at {stage}: {_PIXELS}")


def _set(recipe: Recipe) -> str:
    name = recipe.fit.augments[0]
    return f"{name} is {str(getattr(recipe.fit, name)).lower()}"
