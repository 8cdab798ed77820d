"""Why an export stops. The message names what is at fault and the remedy; nothing is left behind."""

from __future__ import annotations


class ExportError(Exception):
    """The bundle was not written."""


class UnsupportedModule(ExportError):
    """A module that ONNX, or the way the service runs heads and encoders, can't hold."""

    def __init__(self, module: str, fault: str, remedy: str) -> None:
        super().__init__(f"{module} can't be exported: {fault}; {remedy}")


class CheckFailed(ExportError):
    """A line of the certificate did not pass."""
