"""Environments are kept: the tests of a GPU machine need the CPU's, and must not cost it its own."""

import importlib.metadata
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from prefix_opd.checks import cluster
from prefix_opd.commands import quickstart
from prefix_opd.config.compose import compose
from prefix_opd.launch import prepare

REPOSITORY = Path(__file__).parents[1]
STAMPED = (
    "requirements-core.txt requirements-dev.txt requirements-flash-attn.txt "
    "scripts/requirements-exclude.txt pyproject.toml scripts/setup.sh"
)


def environment(folder, device, stamp=""):
    (folder / "bin").mkdir(parents=True)
    for name in ("prefix-opd", "python"):
        (folder / "bin" / name).touch(mode=0o755)
    (folder / ".device").write_text(device)
    (folder / ".stamp").write_text(stamp)


def nvidia_smi(folder, gpus):
    """A program that lists the GPUs of a machine, and the PATH that finds it first."""
    folder.mkdir()
    (folder / "nvidia-smi").write_text("#!/bin/sh\n" + "".join(f"echo 'GPU {n}: NVIDIA H100'\n" for n in range(gpus)))
    (folder / "nvidia-smi").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def repository(tmp_path):
    """A folder with the files of scripts/setup.sh, the stamp of an up-to-date environment by device, and the script."""
    for name in ("requirements.txt", "requirements-cpu.txt", *STAMPED.split()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shell = {"cwd": tmp_path, "shell": True, "check": True, "text": True, "stdout": subprocess.PIPE}

    def stamp(device):
        packages = f"requirements{'-cpu' * (device == 'cpu')}.txt"
        return subprocess.run(f'echo "$(cat {packages} {STAMPED} | cksum)-{device}-$PWD"', **shell).stdout

    def set_up(*arguments, **environment):
        command = " ".join(["scripts/setup.sh", *arguments])
        return subprocess.run(command, env={**os.environ, "PREFIX_OPD_DEVICE": "", **environment}, **shell).stdout

    return tmp_path, stamp, set_up


def test_an_environment_of_the_other_kind_is_put_by_and_comes_back(repository):
    folder, stamp, set_up = repository
    environment(folder / ".venv", "gpu")
    environment(folder / ".venv-cpu", "cpu", stamp("cpu"))
    assert set_up("cpu") == "", "it was up to date: nothing is set up"
    assert (folder / ".venv" / ".device").read_text() == "cpu"
    assert (folder / ".venv-gpu" / ".device").read_text() == "gpu"
    assert not (folder / ".venv-cpu").exists()


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (1, "gpu"), (2, "gpu"), (5000, "gpu")])
def test_one_card_makes_a_gpu_machine(repository, gpus, device):
    folder, stamp, set_up = repository
    other = "cpu" if device == "gpu" else "gpu"
    environment(folder / ".venv", other)
    environment(folder / f".venv-{device}", device, stamp(device))
    assert set_up(PATH=nvidia_smi(folder / "bin", gpus)) == ""
    assert (folder / ".venv" / ".device").read_text() == device


@pytest.mark.parametrize(("gpus", "asked"), [(1, 1), (2, 2)])
def test_the_quickstart_takes_one_card_or_two(tmp_path, monkeypatch, gpus, asked):
    def version(name):
        raise importlib.metadata.PackageNotFoundError

    with monkeypatch.context() as gpu_machine:
        gpu_machine.setattr(importlib.metadata, "version", version)
        gpu_machine.setenv("PATH", nvidia_smi(tmp_path / "bin", gpus))
        gpu_machine.delenv(cluster.VISIBLE, raising=False)
        overrides = quickstart._devices()
        cluster.check_machine(compose(["experiment=tiny/schedule", *overrides]))
    monkeypatch.chdir(tmp_path)
    assert sum(cluster.gpus(prepare(["experiment=tiny/schedule", *overrides]))) == asked
