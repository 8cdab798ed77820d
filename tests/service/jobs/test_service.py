"""Jobs of one replica: how many uploads may wait, and one that does none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.errors import SpoolFull
from service.jobs.items import Item
from service.jobs.job import NewJob, Options, new_id
from service.jobs.service import Jobs
from service.serving import Serving
from service.settings import Settings
from service.spool import Spool


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
