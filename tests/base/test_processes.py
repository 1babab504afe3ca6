"""Child processes."""

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
