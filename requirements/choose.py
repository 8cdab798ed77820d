"""Print the lock that this machine serves with; say why on stderr. Standard library only: runs before any install."""

from __future__ import annotations

import shutil
import subprocess
import sys

# onnxruntime-gpu of the lock is built for CUDA 13, which needs this driver (NVIDIA CUDA release notes).
MIN_DRIVER = 580


def choose() -> tuple[str, str]:
    """(lock file, reason)."""
    cpu, gpu = "requirements/serve-cpu.txt", "requirements/serve-gpu.txt"
    command = shutil.which("nvidia-smi")
    if command is None:
        return cpu, "no nvidia-smi here"
    asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
        driver = answer.split()[0]
        major = int(driver.split(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return cpu, f"nvidia-smi gave no driver version ({error})"
    if major < MIN_DRIVER:
        return cpu, f"driver {driver} is older than {MIN_DRIVER}, which CUDA 13 needs"
    return gpu, f"driver {driver}"


if __name__ == "__main__":
    lock, reason = choose()
    print(lock)  # noqa: T201
    print(f"serving environment: {lock} ({reason})", file=sys.stderr)  # noqa: T201
