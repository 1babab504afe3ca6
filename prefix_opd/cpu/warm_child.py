"""The child's side of `warm_python`: a fork becomes the requested program."""

from __future__ import annotations

import fcntl
import multiprocessing.spawn
import os
import runpy
import signal
import sys
import types
from pathlib import Path

from prefix_opd.base.processes import run_and_leave

RAY_JOB_ID = "01000000"
"""The first job of a new cluster. Ray's C++ part reads the variable of this name on import, before Ray sets it.
So the warm copy sets it first, and a process of another job gets a plain interpreter."""


def become(argv: list[str], environment: dict, folder: str, numbers: list[int], received: list[int], stand_in: Path):
    """In the forked child: take over descriptors, environment and arguments, and run the program. Never returns."""

    def program() -> None:
        _place_descriptors(numbers, received)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        if environment.get("RAY_JOB_ID", RAY_JOB_ID) != RAY_JOB_ID:
            os.execv(sys.executable, [sys.executable, *argv])
        if "numpy" in sys.modules:  # forks would draw alike; Python's generator reseeds itself after a fork
            sys.modules["numpy"].random.seed()
        multiprocessing.spawn.set_executable(str(stand_in))
        _run_program(argv)

    run_and_leave(program)


def _place_descriptors(numbers: list[int], received: list[int]) -> None:
    # Move all descriptors first: a received number may be the destination of another.
    above = max([*numbers, *received, 2]) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    for number, descriptor in zip(numbers, moved, strict=True):
        os.dup2(descriptor, number, inheritable=True)
        os.close(descriptor)


def _run_program(argv: list[str]) -> None:
    """What ``python ARGV…`` does, for the forms that Ray and multiprocessing use."""
    while argv and argv[0].startswith("-") and argv[0] not in ("-c", "-m"):
        argv = argv[2:] if argv[0] in ("-X", "-W") else argv[1:]
    if argv[0] == "-c":
        sys.argv = ["-c", *argv[2:]]
        sys.path.insert(0, "")
        exec(compile(argv[1], "<string>", "exec"), _fresh_main().__dict__)
    elif argv[0] == "-m":
        sys.argv = argv[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(argv)
        sys.path.insert(0, str(Path(argv[0]).resolve().parent))
        main = _fresh_main()
        main.__file__ = argv[0]
        source = Path(argv[0]).read_bytes()
        exec(compile(source, argv[0], "exec"), main.__dict__)


def _fresh_main():
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    return main
