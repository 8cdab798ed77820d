"""What may be used and what is used, of a setting, a container and a machine."""

from __future__ import annotations

import mmap
from pathlib import Path

import psutil
import pytest

from service.memory import Memory, resident_bytes
from service.settings import MIB

V2 = {
    "memory.max": "536870912\n",
    "memory.current": "314572800\n",
    "memory.stat": "anon 1\nactive_file 52428800\ninactive_file 10485760\n",
}
V1 = {
    "memory/memory.limit_in_bytes": "536870912\n",
    "memory/memory.usage_in_bytes": "314572800\n",
    "memory/memory.stat": "total_rss 1\ntotal_active_file 52428800\ntotal_inactive_file 10485760\n",
}


def cgroup(folder: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    monkeypatch.setattr("service.settings.CGROUP", folder)


@pytest.mark.parametrize("files", [V2, V1], ids=["v2", "v1"])
def test_of_a_container_the_cache_of_files_does_not_count(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup(tmp_path, files, monkeypatch)
    assert Memory.now() == Memory(512 * MIB, 240 * MIB, "the container's cgroup")


@pytest.mark.parametrize("files", [{}, {"memory.max": "max\n"}, {"memory.max": "536870912\n"}])
def test_else_the_machine_counts(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a cgroup has a limit and does not say what it uses."""
    cgroup(tmp_path, files, monkeypatch)
    memory = Memory.now()
    assert (memory.limit, memory.limited_by) == (psutil.virtual_memory().total, "the machine")
    assert 0 < memory.used < memory.limit


def test_a_setting_counts_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroup(tmp_path, V2, monkeypatch)
    before = resident_bytes()
    block = mmap.mmap(-1, 64 * MIB)  # pages of its own: what other tests left to the allocator would be used again
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    memory = Memory.now(MIB)
    assert (memory.limit, memory.limited_by) == (MIB, "the setting memory_limit_bytes")
    assert memory.used >= before + 32 * MIB


def test_what_does_not_fit_is_told_in_figures() -> None:
    memory = Memory(512 * MIB, 300 * MIB, "the container's cgroup")
    assert memory.misfit(148 * MIB, clips=1) == ""
    assert memory.misfit(149 * MIB, clips=1) == (
        "148.0 MiB are free: the limit is 512.0 MiB (the container's cgroup), 300.0 MiB are used, 64.0 MiB are kept "
        "for open clips (max_clips_in_progress)"
    )
    assert memory.misfit(0, clips=4).startswith("0.0 MiB are free")
