"""A worker process: one JSON object in, one out, until the pipe closes.

It is started as ``python -m prefix_opd.grading.worker MEMORY_BYTES PIPE``. ``multiprocessing.Process`` does not work
here: Ray and notebooks have no main module that a spawned process can import, and forking a process with threads is
unsafe.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from multiprocessing.connection import Connection


def main(memory_bytes: int, pipe: Connection) -> None:
    """Answers ``{"answer", "truth", "limit_s"}`` with ``{"equal"}`` or ``{"failed"}``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C

    def send(**reply: object) -> None:
        pipe.send_bytes(json.dumps(reply).encode())

    try:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        from prefix_opd.grading.symbolic import equal_by_algebra

        # the first call is slow, because it builds tables: make it before any time limit
        equal_by_algebra("\\frac{x}{2}+\\sqrt{2}", "0.5x+2^{1/2}")
    except Exception as error:
        return send(broken=f"{type(error).__name__}: {error}")
    send(ready=True)
    while True:
        try:
            task = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        # SIGPROF's default action ends this process, also in C code and without a parent. The timer counts processor
        # time, so that a grade does not depend on the load of the machine.
        signal.setitimer(signal.ITIMER_PROF, task["limit_s"])
        try:
            reply = {"equal": equal_by_algebra(task["answer"], task["truth"])}
        except Exception as error:
            reply = {"failed": type(error).__name__}
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        send(**reply)


if __name__ == "__main__":
    main(int(sys.argv[1]), Connection(int(sys.argv[2])))
