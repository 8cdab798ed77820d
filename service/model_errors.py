"""What a request is told that names a model which does not answer. The tree is drawn in `service/errors.py`."""

from __future__ import annotations

from service.errors import RequestError


class UnknownModel(RequestError):
    """No bundle has this name."""

    status = 404
    code = "unknown_model"
    title = "Unknown model"
    remedy = "`/v1/models` has the names"


class ModelNotLoaded(RequestError):
    """The bundle exists and is not in memory: the setting `models` leaves it out, or it would not fit."""

    status = 404
    code = "model_not_loaded"
    title = "Model not loaded"
    remedy = "`/v1/models` has those that are loaded; the setting `models` has what to load"


class ModelRefused(RequestError):
    """The bundle exists, but its certificate is missing, failed or for other bytes."""

    status = 404
    code = "model_refused"
    title = "Model refused"
    remedy = "`/v1/models` has the reason; export the bundle again"


# What a route raises that takes a model's name.
MODEL_ERRORS = (UnknownModel, ModelNotLoaded, ModelRefused)
