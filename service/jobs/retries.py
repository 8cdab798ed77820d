"""What may pass is tried again: with growing pauses and jitter, or when the other side says (`Retry-After`)."""

from __future__ import annotations

import datetime
import email.utils
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

import tenacity

from service.errors import Cancelled, SpoolFull

_Result = TypeVar("_Result")

TRIES = 4
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 20.0
# Whoever asks for more is asked again sooner: a place of a batch is not held for a day.
_LONGEST_RETRY_AFTER_SECONDS = 60.0
# Request Timeout, Too Early, Too Many Requests; and whatever is the server's own fault.
_MAY_PASS = frozenset({408, 425, 429})


class SourceFailed(Exception):
    """Why a file that is elsewhere did not come. retry_after_seconds: what its server asks for. tries: so far."""

    def __init__(self, reason: str, *, may_pass: bool, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_pass = may_pass
        self.retry_after_seconds = retry_after_seconds
        self.tries = 1


def status_may_pass(status: int) -> bool:
    """Of HTTP."""
    return status in _MAY_PASS or 500 <= status <= 599


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Of RFC 9110: a number of seconds, or a date, by the clock of whoever sends it. 0 where it says nothing."""
    said = headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    at, now = _date(said), _date(headers.get("date", "")) or datetime.datetime.now(datetime.UTC)
    return max(0.0, (at - now).total_seconds()) if at else 0.0


def retrying(cancelled: threading.Event, call: Callable[..., _Result], *args: object) -> _Result:
    """What `call` returns, or raises at last. Once `cancelled` is set Cancelled is raised in place of a try.

    A SourceFailed that was given up won't pass: who calls may be retried as well, and the tries don't multiply.
    A spool that is full is waited for however long: other items will end.
    """
    wait = tenacity.sleep_using_event(cancelled)

    def check() -> None:
        if cancelled.is_set():
            raise Cancelled("before a source was read")

    def pause(seconds: float) -> None:
        wait(seconds)
        check()  # tenacity would begin the next try

    check()
    again = tenacity.Retrying(
        stop=lambda state: cancelled.is_set() or _given_up(state),
        sleep=pause,
        wait=_wait_seconds,
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
    )
    try:
        return again(call, *args)
    except SourceFailed as error:
        error.may_pass, error.tries = False, max(error.tries, again.statistics["attempt_number"])
        raise


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    grown = tenacity.wait_exponential_jitter(multiplier=_FIRST_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS)(state)
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_seconds if isinstance(error, SourceFailed) else 0.0
    if asked <= grown:
        return grown
    # Not all at the same moment.
    return min(asked, _LONGEST_RETRY_AFTER_SECONDS) + tenacity.wait_random(0.0, _FIRST_WAIT_SECONDS)(state)


def _given_up(state: tenacity.RetryCallState) -> bool:
    full = state.outcome is not None and isinstance(state.outcome.exception(), SpoolFull)
    return not full and state.attempt_number >= TRIES


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, SpoolFull) or (isinstance(error, SourceFailed) and error.may_pass)


def _date(text: str) -> datetime.datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
