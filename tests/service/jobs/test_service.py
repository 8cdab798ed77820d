"""Jobs of one replica: how many uploads may wait, and one that does none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
from pydantic import SecretStr

from service.errors import SpoolFull
from service.jobs import service as service_module
from service.jobs.database import open_database
from service.jobs.items import Item
from service.jobs.job import NewJob, Options, new_id
from service.jobs.service import Jobs
from service.jobs.store import JobStore
from service.serving import Serving
from service.settings import Settings
from service.spool import Spool
from tests.receiver import receiving
from tests.server import wait_until
from tests.service.jobs.test_store import STRANGER
from tests.service.jobs.test_webhooks import finished


def jobs_of(folder: Path, **settings_of: Any) -> Jobs:
    settings = Settings(jobs_dir=folder, spool_dir=folder / "spool", **settings_of)
    return Jobs(settings, Serving(settings), Spool(settings.spool_dir, 1, 1), lambda job: "")


def test_what_goes_while_it_is_counted_counts_for_nothing(tmp_path: Path) -> None:
    """A name that is listed and leads nowhere, as that of a file which is deleted before its size is asked for."""
    jobs = jobs_of(tmp_path, job_uploads_quota_bytes=1)
    (jobs.uploads / "job").mkdir(parents=True)
    (jobs.uploads / "job" / "0").symlink_to(tmp_path / "gone")
    jobs.check_uploads()


def test_no_more_uploads_than_the_quota(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, job_uploads_quota_bytes=10)
    jobs.check_uploads()
    for number in range(2):
        (jobs.uploads / f"job-{number}").mkdir(parents=True)
        (jobs.uploads / f"job-{number}" / "0").write_bytes(bytes(5))
        jobs.submitted()
    with pytest.raises(SpoolFull, match="hold 10 of 10 bytes; wait for those jobs, or raise job_uploads_quota_bytes"):
        jobs.check_uploads()


def test_a_replica_may_only_take_jobs_in(tmp_path: Path) -> None:
    """Others do them."""
    jobs = jobs_of(tmp_path, max_job_items_in_progress=0)
    jobs.start()
    try:
        new = NewJob("a model", "its hash", Options(), "of the request")
        job_id = jobs.store.create(new_id(), new, iter([Item("a", "file:///a.mp4")]))
        jobs.submitted()
        assert jobs.store.get(job_id).state == "queued"
    finally:
        jobs.close()


def test_what_waits_for_another_key_is_told_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service_module, "_EXPIRE_SECONDS", 0.05)
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}", STRANGER)
    store = JobStore(engine, keys=STRANGER, owner="two", place="there")
    items = [Item(str(number), f"https://host/{number}?a=b") for number in range(3)]
    store.create(new_id(), NewJob("a model", "its hash", Options(), "of the request"), items)
    engine.dispose()
    jobs = jobs_of(tmp_path)
    jobs.start()
    try:
        wait_until(lambda: "3 items and 0 webhooks wait for a secret_key" in caplog.text, "the warning")
    finally:
        jobs.close()


def test_webhooks_go_on_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault that nobody has foreseen, in the store itself."""
    monkeypatch.setattr(service_module, "_WEBHOOK_POLL_SECONDS", 0.05)
    with receiving() as receiver:
        jobs = jobs_of(
            tmp_path, job_webhook_prefixes=receiver.url, job_webhook_secret=SecretStr("of the tests"),
            max_job_items_in_progress=0,
        )  # fmt: skip
        faults, due = [KeyError("unforeseen")], JobStore.due_webhook
        monkeypatch.setattr(JobStore, "due_webhook", lambda store: _raised(faults.pop()) if faults else due(store))
        jobs.start()
        try:
            finished(jobs.store, receiver.url)
            wait_until(lambda: receiver.heard != [], "the webhook")
        finally:
            jobs.close()
    assert "KeyError: 'unforeseen'" in caplog.text


def _raised(error: Exception) -> NoReturn:
    raise error
