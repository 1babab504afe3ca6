"""The stand-in interpreter behaves as an interpreter; each test talks to one warm copy."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from prefix_opd.cpu import warm_python

LAUNCHER = """
import sys
from prefix_opd.cpu import warm_python
print(warm_python.start(["json", "torch"]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def stand_in():
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    path = Path(launcher.stdout.readline().strip())
    yield path
    launcher.stdin.close()
    launcher.wait()
    for _ in range(100):
        if not path.parent.exists():
            break
        time.sleep(0.1)
    assert not path.parent.exists(), "the warm copy outlived its launcher"


def python(stand_in, *arguments, **kwargs):
    return subprocess.run([str(stand_in), *arguments], capture_output=True, text=True, timeout=60, **kwargs)


def test_what_was_imported_is_there_already(stand_in):
    ran = python(stand_in, "-c", "import sys; print('torch' in sys.modules)")
    assert ran.stdout == "True\n", ran.stderr


def test_arguments_environment_folder_and_exit_code_are_the_callers(stand_in, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import json, os, sys
            print(json.dumps([__name__, sys.argv[1:], os.environ["MINE"], os.getcwd(), sys.stdin.read()]))
            sys.exit(7)
            """
        )
    )
    ran = python(
        stand_in, "-u", str(program), "a", "-b", env={**os.environ, "MINE": "yes"}, cwd=tmp_path, input="hello"
    )
    assert ran.returncode == 7, ran.stderr
    assert json.loads(ran.stdout) == ["__main__", ["a", "-b"], "yes", str(tmp_path), "hello"]


def test_a_traceback_and_a_failure_code(stand_in):
    ran = python(stand_in, "-c", "raise ValueError('told')")
    assert ran.returncode == 1 and "ValueError: told" in ran.stderr


def test_threads_and_exit_functions_are_waited_for(stand_in):
    ran = python(
        stand_in,
        "-c",
        "import atexit, threading, time\n"
        "atexit.register(print, 'at exit')\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()",
    )
    assert ran.stdout == "thread\nat exit\n", ran.stderr


def test_descriptors_keep_their_numbers(stand_in):
    read, write = os.pipe()
    ran = python(stand_in, "-c", f"import os; os.write({write}, b'through')", pass_fds=[write])
    os.close(write)
    assert ran.returncode == 0, ran.stderr
    assert os.read(read, 100) == b"through" and os.read(read, 1) == b""  # and nobody else holds the other end
    os.close(read)


def test_numpys_random_numbers_differ_between_copies(stand_in):
    drawn = {python(stand_in, "-c", "import numpy; print(numpy.random.rand())").stdout for _ in range(3)}
    assert len(drawn) == 3


def test_a_stand_in_that_is_killed_before_it_hears_of_its_program_ends_that_alone(stand_in):
    request = json.dumps([["-c", "import time; time.sleep(60)"], dict(os.environ), os.getcwd(), []]).encode()
    with socket.socket(socket.AF_UNIX) as warm:  # asks as the stand-in does, but without descriptors
        warm.connect(str(stand_in.with_name("warm.sock")))
        warm.sendall(len(request).to_bytes(8, "big") + request)
    ran = python(stand_in, "-c", "import sys; print('torch' in sys.modules)")
    assert ran.stdout == "True\n", "the warm copy is gone"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_signal_to_the_stand_in_ends_its_program(stand_in, number, code):
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    running = subprocess.Popen([str(stand_in), "-c", program], stdout=subprocess.PIPE, text=True)
    pid = int(running.stdout.readline())
    running.send_signal(number)
    assert running.wait(timeout=20) == code
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_a_killed_program_ends_its_stand_in_the_same_way(stand_in):
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    ran = subprocess.run([str(stand_in), "-c", program], capture_output=True, text=True, timeout=20)
    assert (ran.returncode, ran.stderr) == (-signal.SIGKILL, "")


def test_multiprocessing_spawns_through_it(stand_in, tmp_path):
    program = tmp_path / "spawns.py"
    program.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys

            def child(queue):
                queue.put("torch" in sys.modules)

            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")
                queue = context.Queue()
                process = context.Process(target=child, args=(queue,))
                process.start()
                print(queue.get(timeout=30))
                process.join()
                sys.exit(process.exitcode)
            """
        )
    )
    ran = python(stand_in, str(program))
    assert (ran.returncode, ran.stdout) == (0, "True\n"), ran.stderr


def test_without_a_warm_copy_it_is_the_plain_interpreter(stand_in, tmp_path):
    orphan = tmp_path / "python"
    orphan.write_text(stand_in.read_text().replace("warm.sock", "nobody.sock"))
    orphan.chmod(0o700)
    ran = python(orphan, "-c", "import sys; print('torch' in sys.modules); sys.exit(4)")
    assert (ran.returncode, ran.stdout) == (4, "False\n")


def test_what_is_deaf_to_sigterm_ends_a_while_after_the_launcher(tmp_path):
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER.replace("print(", "warm_python.GRACE = 1.0\nprint(")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stand_in = launcher.stdout.readline().strip()
    deaf = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid()); time.sleep(60)"
    program = subprocess.Popen([stand_in, "-u", "-c", deaf], stdout=subprocess.PIPE, text=True)
    pid = int(program.stdout.readline())
    launcher.stdin.close()
    launcher.wait()
    ended = time.monotonic()
    while Path(f"/proc/{pid}").exists() and time.monotonic() < ended + 20:
        time.sleep(0.05)
    assert 0.5 < time.monotonic() - ended < 15
    assert program.wait() != 0


def test_an_import_that_starts_cuda_is_noticed(tmp_path, monkeypatch):
    assert not warm_python.cuda_has_started()
    monkeypatch.setattr(warm_python, "_OPEN_FILES", tmp_path)
    (tmp_path / "5").symlink_to("/dev/nvidiactl")  # NVML's
    assert not warm_python.cuda_has_started()
    (tmp_path / "6").symlink_to("/dev/nvidia-uvm")
    assert warm_python.cuda_has_started()


def test_the_import_that_starts_cuda_is_named(tmp_path):
    """In a process of its own, as `load` imports Ray's C++ part for one job."""
    for name, line in (("innocent", ""), ("culprit", "Path('files/5').symlink_to('/dev/nvidia-uvm')"), ("later", "")):
        (tmp_path / f"{name}.py").write_text(f"from pathlib import Path\n{line}\n")
    (tmp_path / "files").mkdir()
    program = (
        "from pathlib import Path; from prefix_opd.cpu import warm_python; warm_python._OPEN_FILES = Path('files');"
        "warm_python.load(['innocent', 'culprit', 'later']); print(warm_python.starts_cuda)"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "culprit\n", ran.stderr


DRAW = "from ray import ObjectRef; print(ObjectRef.from_random().hex())"
ACTOR = "import ray\n@ray.remote\nclass Actor:\n    pass\n"


def launched(tmp_path, then: str) -> list[str]:
    """The lines of a launcher that imports a module with an actor, and does ``then``."""
    (tmp_path / "module.py").write_text(ACTOR)
    program = f"from prefix_opd.cpu import warm_python; warm_python.load(['module']);{then}"
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert not ran.returncode, ran.stderr
    return ran.stdout.splitlines()


def test_forks_draw_their_own_ids_from_ray(tmp_path):
    """Two runs of one id in one actor end it: a module with actors must not draw one before the fork."""
    draw = f"import subprocess as s; [s.run([str(warm_python.start()), '-c', {DRAW!r}]) for _ in range(3)]"
    drawn = launched(tmp_path, f"import sys; sys.stdout.flush(); {draw}")
    assert len(set(drawn)) == 3


def test_a_launcher_that_has_drawn_an_id_from_ray_is_no_warm_copy(tmp_path):
    draw = "from ray import ObjectRef; ObjectRef.from_random()"
    assert launched(tmp_path, f"{draw}; print(warm_python.start(), warm_python.why_not())") == [
        "None an imported module has drawn an id from Ray"
    ]


def test_a_gpu_run_has_a_warm_copy_if_it_is_asked_for(monkeypatch):
    monkeypatch.delenv(warm_python.SWITCH, raising=False)
    assert [warm_python.is_asked(platform) for platform in ("cpu", "gpu")] == [True, False]
    monkeypatch.setenv(warm_python.SWITCH, "1")
    assert warm_python.is_asked("gpu")
    for platform in ("cpu", "gpu"):
        assert all(importlib.util.find_spec(module) for module in warm_python.PRELOAD[platform])
