"""Heavy work gives way to whoever answers: the event loop gets a core as soon as it wants one."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

# Of a third of the weight (sched(7)). All heavy work has the same: encoders and decoders share the cores as before.
NICE = 5
# Of jobs' decoders: the least that there is. Their process can't be raised again, and takes videos of jobs only.
JOB_NICE = 19


def give_way(nice: int = NICE) -> None:
    """Lower the calling thread's priority, and that of the processes and threads that it will start.

    Linux has a nice value for each thread (setpriority(2)); elsewhere it is the process's, and this does nothing.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it, and all is only slower
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
