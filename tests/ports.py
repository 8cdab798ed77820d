"""Ports for servers of tests: chosen before the server starts, and taken by nobody else meanwhile."""

from __future__ import annotations

import itertools
import os
import socket

# Below the ports that the system gives to clients (ip_local_port_range); each process of tests begins elsewhere.
_FIRST, _PORTS = 20_000, 12_000
_steps = itertools.count(os.getpid() * 1499)


def free_port() -> int:
    """On loopback; another one each time."""
    for step in itertools.islice(_steps, _PORTS):
        port = _FIRST + step % _PORTS
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"none of {_PORTS} ports is free")
