"""What runs, what is passed over, and how bad input and interruptions end."""

import subprocess
import sys

import pytest

from harness.driver import exit_code, names, whole
from prefix_opd.base.errors import UserError

# in a process of its own: a driver takes over the orphans of what pytest has started
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from harness.driver import Job, exit_code, run_missing
from harness.store import Store
store = Store(Path(sys.argv[1]) / "rows.jsonl", key=lambda row: row["case"])
broken, interrupted = sys.argv[2:]
def job(case):
    def run():
        if case == interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"case": case, **({"error": "no room"} if case == broken else {"seconds": 2})}
    return Job(f"case {case}", case, run, lambda row: f"{row['seconds']} s")
def main():
    print(json.dumps(run_missing([job(case) for case in "abc"], store)))
    return 0
sys.exit(exit_code(main))
"""


def drive(folder, broken="", interrupted=""):
    command = [sys.executable, "-c", PROGRAM, str(folder), broken, interrupted]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ran.returncode, ran.stdout.splitlines(), ran.stderr


def test_a_failed_and_an_interrupted_run_are_repeated_and_no_other(tmp_path):
    code, told, said = drive(tmp_path, broken="a", interrupted="c")
    assert (code, said) == (130, "stopped; start the same command again to continue\n")
    assert told == ["[1/3] case a", "  failed: no room", "[2/3] case b", "  2 s", "[3/3] case c"]
    assert drive(tmp_path) == (
        0,
        ["[1/3] case a", "  2 s", "[2/3] case b: there already", "[3/3] case c", "  2 s", "[]"],
        "",
    )


def test_failed_rows_are_returned(tmp_path):
    assert drive(tmp_path, broken="b")[1][-1] == '[{"case": "b", "error": "no room"}]'


def test_bad_input_is_one_line_and_code_2(capsys):
    assert exit_code(lambda: whole("--seeds", "x", 0)) == 2
    assert capsys.readouterr().err == "error: --seeds x: must be a whole number of at least 0\n"


def test_whole_numbers_and_names():
    assert (whole("--updates", None, 1), whole("--updates", "3", 1)) == (None, 3)
    for value in ("0", "-1", "2.5", "4"):
        with pytest.raises(UserError, match="at least 1 and at most 3"):
            whole("--updates", value, 1, 3)
    names("--only", ["b"], ["a", "b"], "arm")
    with pytest.raises(UserError, match="--only c: is no arm; known: a, b"):
        names("--only", ["a", "c"], ["a", "b"], "arm")
    with pytest.raises(UserError, match="--only a a: names one twice"):
        names("--only", ["a", "a"], ["a", "b"], "arm")
