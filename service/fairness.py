"""Who is served next: one policy for encoder batches (in frames), decode turns (in seconds) and open clips.

Least attained service first (Kleinrock 1975; Rai, Urvoy-Keller, Biersack 2003): what is short passes what is long,
and nobody need say beforehand which it is. Attained service counts in classes that double, and inside a class the
first to come is the first served: equal clips that took turns would all end last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum
from itertools import count


class Priority(IntEnum):
    """The lower number goes first; see `SHARES` for what keeps the others from starving."""

    INTERACTIVE = 0
    STREAM = 1
    JOB = 2


# Of all service while such work waits and a higher priority would take everything.
SHARES = {Priority.STREAM: 0.2, Priority.JOB: 0.1}
# Of each priority's service, for whoever came first of those that wait: long work goes on under any load of short.
OLDEST_SHARE = 0.1


@dataclass(eq=False)
class Account:
    """What one clip has had. number: order of arrival."""

    priority: Priority
    number: int
    attained: float = 0.0


@dataclass(frozen=True)
class Turn:
    """Whose turn it is. owed: the guaranteed shares that it pays off, where it is out of the usual order."""

    account: Account
    owed: tuple[object, ...] = ()


class Fair:
    """Accounts and what is owed to whom. Not thread-safe: its owner holds a lock.

    unit: the smallest service worth a turn out of order. base: below this much attained service all are alike.
    """

    def __init__(self, unit: float, base: float) -> None:
        self.base = base
        self._unit = unit
        self._numbers = count()
        self._owed: dict[object, float] = {}

    def account(self, priority: Priority = Priority.INTERACTIVE) -> Account:
        """For a clip that has just come."""
        return Account(priority, next(self._numbers))

    def level(self, account: Account) -> int:
        """0 below `base` of attained service, 1 below twice that, and so on."""
        return int(account.attained // self.base).bit_length()

    def choose(self, waiting: Collection[Account]) -> Turn:
        """The next of those who wait (at least one)."""
        present = sorted({account.priority for account in waiting})
        owed = [key for key in present[1:] if self._owed.get(key, 0.0) >= self._unit]
        priority = max(owed, key=lambda key: self._owed[key]) if owed else present[0]
        among = [account for account in waiting if account.priority == priority]
        oldest = min(among, key=lambda account: account.number)
        if self._owed.get(_oldest_of(priority), 0.0) >= self._unit:
            return Turn(oldest, (*([priority] if owed else []), _oldest_of(priority)))
        best = min(among, key=lambda account: (self.level(account), account.number))
        return Turn(best, (priority,) if owed else ())

    def charge(self, turn: Turn, amount: float, waiting: Collection[Account]) -> None:
        """Book service of a turn. waiting: those among whom it was chosen."""
        account = turn.account
        account.attained += amount
        present = {other.priority for other in waiting}
        for priority, share in SHARES.items():
            # Nobody saves up while there is nothing to do, or nobody above.
            self._owe(priority, share * amount, holds=priority in present and priority != min(present))
        passed_over = any(o.priority == account.priority and o.number < account.number for o in waiting)
        oldest = _oldest_of(account.priority)
        self._owe(oldest, OLDEST_SHARE * amount, holds=passed_over or oldest in turn.owed)
        for key in turn.owed:
            self._owed[key] -= amount

    def _owe(self, key: object, amount: float, *, holds: bool) -> None:
        self._owed[key] = self._owed.get(key, 0.0) + amount if holds else min(self._owed.get(key, 0.0), 0.0)


class TokenBucket:
    """Seconds of service at a steady rate (Turner 1986), on credit: what is not used is hardly saved up.

    rate: seconds of service in a second. depth: the largest debt in seconds of service; beyond it nothing is booked.
    late: seconds by which a turn may come late and still be made up for. clock: seconds.
    """

    def __init__(self, rate: float, depth: float, late: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._depth = depth
        self._late = late
        self._clock = clock
        self._paid = clock()  # when all debt is paid off

    def take(self, seconds: float) -> None:
        """Book service."""
        now = self._clock()
        self._paid = min(max(self._paid, now - self._late) + seconds / self._rate, now + self._depth / self._rate)

    def wait_seconds(self) -> float:
        """How long until there is no debt; 0 without one."""
        return max(self._paid - self._clock(), 0.0)


def _oldest_of(priority: Priority) -> tuple[str, Priority]:
    return ("oldest", priority)
