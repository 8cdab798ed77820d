"""The image's HEALTHCHECK: exit 0 when /readyz answers 200 within 4 seconds, else 1 and the reason.

Stand-alone, standard library only: it runs every few seconds and must cost next to nothing.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> int:
    """Ask the port that service/settings.py would choose; the image listens on all, so loopback will do."""
    port = os.environ.get("REELSERVE_PORT") or os.environ.get("PORT") or "3000"
    connection = HTTPConnection(f"127.0.0.1:{port}", timeout=4)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        reason = answer.read(2000).decode(errors="replace")
    except (OSError, HTTPException) as error:
        print(f"port {port}: {error}")  # noqa: T201  (docker inspect shows it)
        return 1
    if answer.status != 200:
        print(f"port {port}: {answer.status} {reason}")  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
