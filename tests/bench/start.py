"""`make serve` as a stranger meets it: seconds to ready, first and second time, megabytes installed, one clip answered.

Standard library only: it runs before anything is installed. `python3 tests/bench/start.py` in a fresh clone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 600
# A moving square in Motion JPEG, drawn by what serving installs: no clip has to be fetched.
DRAW = """
import sys, cv2, numpy as np
out = cv2.VideoWriter(sys.argv[1], cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 240))
for i in range(75):
    frame = np.zeros((240, 320, 3), np.uint8)
    frame[80:160, 2 * i : 2 * i + 80] = 255
    out.write(frame)
out.release()
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_and_predict(folder: Path) -> float:
    """Run `make serve`, wait for /readyz, upload a clip, stop; seconds from the command to ready."""
    port = free_port()
    environment = {
        **os.environ,
        "BENTOML_HOME": str(folder / "bentoml"),
        "REELSERVE_SPOOL_DIR": str(folder / "spool"),
        "REELSERVE_JOBS_DIR": str(folder / "jobs"),
        "UV_CACHE_DIR": str(folder / "uv"),  # a fresh machine has no cache
        "PIP_NO_CACHE_DIR": "1",
    }
    started = time.monotonic()
    command = ["make", "serve", f"PORT={port}"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        wait_ready(server, f"http://127.0.0.1:{port}/readyz")
        seconds = time.monotonic() - started
        clip = folder / "clip.avi"
        subprocess.run([str(ROOT / ".venv-serve/bin/python"), "-c", DRAW, str(clip)], check=True)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/predict", clip.read_bytes(), {"Content-Type": "video/x-msvideo"}
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            answer = json.load(response)
        assert answer["predictions"], answer
        assert answer["receipt"]["frames_walked"] == 75, answer
        return seconds
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def wait_ready(server: subprocess.Popen[bytes], url: str) -> None:
    """Until /readyz answers 200."""
    until = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            sys.exit(f"make serve ended with {server.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"not ready after {DEADLINE_SECONDS} s")


def installed_megabytes() -> float:
    """Of both environments that `make serve` made, as `du` counts."""
    folders = [str(ROOT / name) for name in (".venv-serve", ".venv-boot")]
    out = subprocess.run(["du", "-sm", *folders], capture_output=True, text=True, check=True).stdout  # noqa: S607
    return sum(float(line.split()[0]) for line in out.splitlines())


def main() -> None:
    """Print the figures."""
    fresh = not (ROOT / ".venv-serve").exists()
    with tempfile.TemporaryDirectory() as folder:
        first = start_and_predict(Path(folder))
        second = start_and_predict(Path(folder))
    torch = subprocess.run(
        [str(ROOT / ".venv-serve/bin/python"), "-c", "import torch"], capture_output=True, check=False
    )
    assert torch.returncode != 0, "serving must not install torch"
    print(
        f"make serve to ready: first {first:.1f} s ({'fresh' if fresh else 'not a fresh clone'}), second {second:.1f} s"
    )
    print(f"installed: {installed_megabytes():.0f} MB, without torch")


if __name__ == "__main__":
    main()
