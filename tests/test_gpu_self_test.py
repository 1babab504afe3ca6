"""The self-test on a GPU: skipped here with its reason; its rehearsal has the same tests, and one of them runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefix_opd.launch import prepare

ROOT = Path(__file__).parents[1]
TESTS = 7


def self_test(platform: str, *arguments: str) -> str:
    environment = {**os.environ, "PREFIX_OPD_TEST_PLATFORM": platform, "PREFIX_OPD_PYTHON": sys.executable}
    command = ["bash", str(ROOT / "scripts/test_gpu.sh"), "-p", "no:cacheprovider", *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_a_rehearsal_collects_every_test():
    told = self_test("cpu", "--collect-only", "-q")
    assert len([line for line in told.splitlines() if "::" in line]) == TESTS


def test_without_a_gpu_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    told = self_test("gpu")
    assert f"{TESTS} skipped" in told and "no GPU here: nvidia-smi lists none" in told


def test_the_gradient_is_rehearsed():
    assert "2 passed" in self_test("cpu", "-k", "gradient")


def test_an_interpreter_that_is_none_is_one_line():
    environment = {**os.environ, "PREFIX_OPD_PYTHON": "/no/python"}
    ran = subprocess.run(["bash", "scripts/test_gpu.sh"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr == "error: PREFIX_OPD_PYTHON=/no/python: is not a program; name a Python interpreter\n"


@pytest.fixture
def on_a_gpu(monkeypatch):
    """The modules of the self-test as they are on a GPU."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "gpu"))
    import on_platform
    import test_gpu_gradient

    monkeypatch.setattr(on_platform, "PLATFORM", "gpu")
    monkeypatch.setattr(test_gpu_gradient, "PLATFORM", "gpu")
    return on_platform, test_gpu_gradient


def test_its_runs_are_accepted_on_a_gpu(on_a_gpu, tmp_path):
    platform, gradient = on_a_gpu
    for cards in (1, 2):
        own = f"trainer.default_local_dir={tmp_path}"
        config = prepare(["experiment=tiny/schedule", *platform.overrides(cards), own])
        assert config.platform == "gpu"
        assert config.trainer.n_gpus_per_node == config.distillation.n_gpus_per_node == cards
    for precision in gradient.TOLERANCES:
        config = gradient.configured(precision)
        assert config.actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype == precision
