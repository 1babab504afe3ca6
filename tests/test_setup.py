"""Environments are kept: the tests of a GPU machine need the CPU's, and must not cost it its own."""

import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
STAMPED = (
    "requirements-cpu.txt requirements-core.txt requirements-dev.txt requirements-flash-attn.txt "
    "scripts/requirements-exclude.txt pyproject.toml scripts/setup.sh"
)


def environment(folder, device, stamp=""):
    (folder / "bin").mkdir(parents=True)
    for name in ("prefix-opd", "python"):
        (folder / "bin" / name).touch(mode=0o755)
    (folder / ".device").write_text(device)
    (folder / ".stamp").write_text(stamp)


def test_an_environment_of_the_other_kind_is_put_by_and_comes_back(tmp_path):
    for name in STAMPED.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shell = {"cwd": tmp_path, "shell": True, "check": True, "text": True, "stdout": subprocess.PIPE}
    stamp = subprocess.run(f'echo "$(cat {STAMPED} | cksum)-cpu-$PWD"', **shell).stdout
    environment(tmp_path / ".venv", "gpu")
    environment(tmp_path / ".venv-cpu", "cpu", stamp)
    told = subprocess.run("scripts/setup.sh cpu", **shell).stdout
    assert told == "", "it was up to date: nothing is set up"
    assert (tmp_path / ".venv" / ".device").read_text() == "cpu"
    assert (tmp_path / ".venv-gpu" / ".device").read_text() == "gpu"
    assert not (tmp_path / ".venv-cpu").exists()
