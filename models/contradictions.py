"""Settings of a recipe that do not go together, said before clips are decoded and not after."""

from __future__ import annotations

from torch import nn

from models import optimisation
from models.errors import RecipeError
from models.recipe import Recipe
from models.tasks import TASKS, LossSettings


def refuse_contradictions(recipe: Recipe) -> None:
    """Raises RecipeError for what training would refuse, or pass over, once features are there."""
    fit, task = recipe.fit, TASKS[recipe.task.kind]
    if fit.mixed_precision != "off" and recipe.encoder.train_from is None:
        raise RecipeError(
            f"mixed_precision is {fit.mixed_precision!r}, and the encoder is frozen: heads compute in float32; "
            "leave it out, or train stages of the encoder (train_from)"
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
