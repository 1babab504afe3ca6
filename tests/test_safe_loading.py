"""What a run may load: tensors and NumPy's random states, and nothing that runs."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from prefix_opd import safe_loading
from prefix_opd.compose import compose


def load(path):
    """``torch.load`` as verl calls it, in a process with the variable set, as Ray's workers have it."""
    program = (
        "import sys, torch; from prefix_opd import safe_loading; safe_loading.allow_random_states(); "
        "print(torch.load(sys.argv[1], weights_only=False))"
    )
    environment = {**os.environ, safe_loading.FORCE: "1"}
    return subprocess.run([sys.executable, "-c", program, path], env=environment, capture_output=True, text=True)


def test_random_states_are_loaded(tmp_path):
    path = tmp_path / "extra_state.pt"
    torch.save({"rng": {"numpy": np.random.get_state(), "cpu": torch.get_rng_state()}, "step": 3}, path)
    found = load(path)
    assert found.returncode == 0 and "'MT19937'" in found.stdout and "'step': 3" in found.stdout, found.stderr


def test_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    path = tmp_path / "model.pt"
    torch.save({"weights": torch.zeros(2), "evil": Evil()}, path, pickle_module=pickle)
    found = load(path)
    assert found.returncode != 0 and "Weights only load failed" in found.stderr
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(("strategy", "value"), [("fsdp2", "1"), ("fsdp", None)])
def test_every_process_of_a_run_is_told(strategy, value):
    config = compose(["experiment=tiny/schedule", f"{safe_loading.STRATEGY_KEY}={strategy}"])
    safe_loading.require(config)
    name = f"ray_kwargs.ray_init.runtime_env.env_vars.{safe_loading.FORCE}"
    assert OmegaConf.select(config, name) == value
