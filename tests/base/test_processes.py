"""Child processes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from prefix_opd.base import processes


def test_a_command_that_hangs_is_ended_with_what_it_forked(tmp_path):
    forks = f"sleep 300 & echo $! > {tmp_path / 'pid'}; wait"
    with pytest.raises(subprocess.TimeoutExpired):
        processes.run(["bash", "-c", forks], 0.5)
    child = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    for _ in range(100):  # a killed process runs until the kernel comes to it
        if not child.exists() or child.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError(child.read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_command_starts_reaches_it(number, monkeypatch):
    start = processes.start

    def started(*arguments, **pipes):
        process = start(*arguments, **pipes)
        os.kill(os.getpid(), number)
        return process

    monkeypatch.setattr(processes, "start", started)
    before = signal.getsignal(number)
    with processes.standing_beside(["sleep", "300"], os.environ) as child:
        assert child.wait() == 128 + number and child.take_signals() == [number.name]
    assert signal.getsignal(number) is before
