"""The policy: least attained service first, in classes; the oldest and the lower priorities keep their share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.fairness import OLDEST_SHARE, SHARES, Account, Fair, Priority, TokenBucket

BASE = 64.0


def fair() -> Fair:
    return Fair(unit=1.0, base=BASE)


def serve(policy: Fair, waiting: Iterable[Account], turns: int, amount: float = 4.0) -> Counter[Account]:
    """Service by account, when all of them always want more."""
    accounts, served = list(waiting), Counter[Account]()
    for _ in range(turns):
        turn = policy.choose(accounts)
        policy.charge(turn, amount, accounts)
        served[turn.account] += int(amount)
    return served


def test_clips_that_are_alike_go_first_come_first_served() -> None:
    """Turn by turn they would all end last."""
    policy = fair()
    first, second = policy.account(), policy.account()
    served = [policy.choose([second, first]).account for _ in range(1)]
    policy.charge(policy.choose([second, first]), 16.0, [first, second])
    assert served == [first]
    assert policy.choose([second, first]).account is first, "it has had 16 frames, and is still as short as the other"


def test_least_attained_service_goes_first() -> None:
    policy = fair()
    film, series, clip = (policy.account() for _ in range(3))
    film.attained, series.attained = 5000.0, 300.0
    assert policy.choose([film, series, clip]).account is clip
    assert policy.choose([film, series]).account is series


@pytest.mark.parametrize(("attained", "level"), [(0, 0), (63, 0), (64, 1), (127, 1), (128, 2), (255, 2), (256, 3)])
def test_classes_double(attained: float, level: int) -> None:
    account = fair().account()
    account.attained = attained
    assert fair().level(account) == level


def test_the_oldest_gets_its_floor_under_any_load_of_short_clips() -> None:
    policy = fair()
    film = policy.account()
    film.attained = 10_000.0
    total = 0
    for _ in range(500):  # each clip is new, and gone after its 20 frames
        clip = policy.account()
        while clip.attained < 20:
            waiting = [film, clip]
            turn = policy.choose(waiting)
            policy.charge(turn, 4.0, waiting)
            total += 4
    assert film.attained - 10_000.0 == pytest.approx(OLDEST_SHARE * total, rel=0.02)


@pytest.mark.parametrize("amount", [1.0, 4.0, 16.0])
def test_lower_priorities_keep_their_shares(amount: float) -> None:
    policy = fair()
    accounts = {priority: policy.account(priority) for priority in Priority}
    served = serve(policy, accounts.values(), 2000, amount)
    total = sum(served.values())
    for priority, share in SHARES.items():
        assert served[accounts[priority]] == pytest.approx(share * total, rel=0.02)
    assert served[accounts[Priority.INTERACTIVE]] == pytest.approx((1 - sum(SHARES.values())) * total, rel=0.02)


def test_who_is_alone_gets_all_and_owes_nothing_for_it() -> None:
    policy = fair()
    job = policy.account(Priority.JOB)
    assert serve(policy, [job], 100)[job] == 400
    clip = policy.account()
    served = serve(policy, [job, clip], 100)
    assert served[job] == pytest.approx(40, abs=4), "a tenth from the start, neither more nor less"


def test_a_share_is_not_saved_up_while_nothing_waits() -> None:
    policy = fair()
    clip, job = policy.account(), policy.account(Priority.JOB)
    serve(policy, [clip], 1000)
    served = serve(policy, [clip, job], 10)
    assert served[job] <= 4


def test_the_shares_hold_inside_each_priority() -> None:
    """The oldest of the jobs has a tenth of what the jobs get, at least."""
    policy = fair()
    old = policy.account(Priority.JOB)
    old.attained = 10_000.0
    clip, young = policy.account(), policy.account(Priority.JOB)
    served: Counter[Account] = Counter()
    for _ in range(4000):
        young.attained = 0.0
        served += serve(policy, [clip, old, young], 1)
    jobs = served[old] + served[young]
    assert jobs == pytest.approx(0.1 * served.total(), rel=0.03)
    assert served[old] >= 0.09 * jobs


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nobody_starves(data: st.DataObject) -> None:
    """Whoever they are and whatever they have had: each is served sooner or later, and by the books."""
    policy = fair()
    accounts = [policy.account(data.draw(st.sampled_from(Priority))) for _ in range(data.draw(st.integers(1, 4)))]
    for account in accounts:
        account.attained = data.draw(st.floats(0, 100))
    before = {account: account.attained for account in accounts}
    served = serve(policy, accounts, 3000, data.draw(st.sampled_from([1.0, 4.0])))
    for account in accounts:
        assert account.attained == pytest.approx(before[account] + served[account])
    assert all(served[account] for account in accounts)


def test_a_token_bucket_gives_its_rate_and_no_more() -> None:
    now = 100.0
    bucket = TokenBucket(0.2, depth=1.0, late=0.02, clock=lambda: now)
    assert bucket.wait_seconds() == 0.0
    begun, served = now, 0.0
    for _ in range(1000):
        now += bucket.wait_seconds() + 0.01  # each turn comes late
        bucket.take(0.015)
        served += 0.015
    assert served / (now - begun) == pytest.approx(0.2, rel=0.01)
    now += 3600.0
    assert bucket.wait_seconds() == 0.0
    bucket.take(0.1)
    assert bucket.wait_seconds() == pytest.approx(0.48), "an hour of nothing is not saved up"
    for _ in range(100):
        bucket.take(1.0)
    assert bucket.wait_seconds() == pytest.approx(5.0), "nor is an hour of everything held against it"
