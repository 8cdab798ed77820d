"""A disk that fills up in the middle of a batch: a real one, small, in a mount namespace of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drawn import Drawn
from tests.server import ROOT, environment
from tests.service.jobs.test_command import copies, rows

ALONE = ["unshare", "--user", "--map-root-user", "--mount"]
NUM_CLIPS = 24


def may_mount() -> bool:
    """Containers may forbid it even to root."""
    try:
        return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_mount(), reason="this machine lets nobody mount a disk of their own, however small")
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_recorded_stays_and_resume_goes_on(tmp_path: Path, clip: Drawn, suffix: str) -> None:
    names = copies(clip, tmp_path / "clips", NUM_CLIPS)
    (tmp_path / "disk").mkdir()
    batch = shlex.join([sys.executable, "-m", "service", "batch", "clips", "--out", f"disk/out{suffix}"])
    script = f"""
        mount -t tmpfs -o size=8k tmpfs disk
        {batch}
        echo first $?
        mount -o remount,size=4m disk
        {batch} --resume
        echo second $?
        cp -r disk/* .
    """
    env = {**environment(tmp_path, {"spool_dir": tmp_path / "spool"}), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [*ALONE, "sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.split() == ["first", "2", "second", "0"], done.stderr
    assert re.search(r"disk_full: no space is left for disk/out\S+; .*--resume", done.stderr), done.stderr
    [already] = re.findall(rf"(\d+) of {NUM_CLIPS} are recorded already", done.stderr)
    assert 0 < int(already) < NUM_CLIPS
    assert "Traceback" not in done.stderr
    assert sorted(row.id for row in rows(tmp_path / f"out{suffix}")) == names
