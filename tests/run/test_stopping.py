"""Signals ask a process to end after its step; a second one ends it."""

import signal
import subprocess
import sys
import time

import pytest

from prefix_opd.run.stopping import EXIT_ASKED, forget, is_asked

LISTENER = """
import sys, time
from pathlib import Path
from prefix_opd.run.stopping import listen
listen(Path(sys.argv[1]))
print("listening", flush=True)
time.sleep(30)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_asks_and_the_second_ends(tmp_path, number):
    process = subprocess.Popen([sys.executable, "-c", LISTENER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "listening\n"
    process.send_signal(number)
    deadline = time.time() + 10
    while not is_asked(tmp_path) and time.time() < deadline:
        time.sleep(0.01)
    assert is_asked(tmp_path) and process.poll() is None
    process.send_signal(number)
    assert process.wait(10) == -number


def test_a_request_is_forgotten(tmp_path):
    (tmp_path / "stop").touch()
    forget(tmp_path)
    forget(tmp_path)
    assert not is_asked(tmp_path) and EXIT_ASKED not in (0, 1, 2, 3)
