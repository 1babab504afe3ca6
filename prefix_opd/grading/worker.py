"""A worker process: one JSON line in, one JSON line out, until its input ends.

It is started as ``python -m prefix_opd.grading.worker MEMORY_BYTES``. ``multiprocessing`` does not work here: Ray and
notebooks have no main module that a spawned process can import, and forking a process with threads is unsafe.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys


def main(memory_bytes: int) -> None:
    """Answers ``{"answer", "truth", "limit_s"}`` with ``{"equal"}`` or ``{"failed"}``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keeps the output of libraries out of the replies
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        from prefix_opd.grading.symbolic import equal_by_algebra

        # the first call is slow, because it builds tables: make it before any time limit
        equal_by_algebra("\\frac{x}{2}+\\sqrt{2}", "0.5x+2^{1/2}")
    except Exception as error:
        print(json.dumps({"broken": f"{type(error).__name__}: {error}"}), file=replies)
        return
    print(json.dumps({"ready": True}), file=replies)
    for line in sys.stdin:
        task = json.loads(line)
        # SIGPROF's default action ends this process, also in C code and without a parent. The timer counts processor
        # time, so that a grade does not depend on the load of the machine.
        signal.setitimer(signal.ITIMER_PROF, task["limit_s"])
        try:
            reply = {"equal": equal_by_algebra(task["answer"], task["truth"])}
        except Exception as error:
            reply = {"failed": type(error).__name__}
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main(int(sys.argv[1]))
