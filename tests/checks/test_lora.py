"""The adapter that a student starts from, as the run's checks and the doctor see it."""

import json

import pytest
import torch
from adapters import write_adapter
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM
from verl.utils.config import omega_conf_to_dataclass

from prefix_opd.base.errors import UserError
from prefix_opd.checks.engines import at_start
from prefix_opd.checks.lora import base_and_settings, check_adapter
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.config.lora import Lora
from prefix_opd.method.lora import LINEAR

MODEL = "actor_rollout_ref.model"


def test_its_settings_are_read_and_fit(tmp_path, case):
    folder = write_adapter(tmp_path / "a", modules=["v_proj", "q_proj"])
    opened = case()
    base, found = base_and_settings("adapter", str(folder))
    assert found == Lora(4, 8, ("q_proj", "v_proj"), False, str(folder)) and base == opened.student.path
    check_adapter("adapter", found, opened.student)
    asked = [f"{MODEL}.lora_rank=4", f"{MODEL}.lora_alpha=8", f"{MODEL}.lora_adapter_path={folder}"]
    check(compose(["experiment=tiny/schedule", *asked, f"{MODEL}.target_modules=[q_proj,v_proj]"]))


@pytest.mark.parametrize("changed", [{"lora_alpha": "large"}, {"target_modules": [["q_proj"]]}, {"r": True}])
def test_settings_of_another_type_are_refused_in_one_line(tmp_path, changed):
    path = write_adapter(tmp_path / "a") / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(UserError, match=r"has r=.*, lora_alpha=.*, target_modules=.*; an adapter can have q_proj"):
        base_and_settings("adapter", str(path.parent))


def test_the_doctors_engines_start_from_it(tmp_path, case):
    folder = write_adapter(tmp_path / "a")
    asked = [f"{MODEL}.lora_rank=4", f"{MODEL}.lora_alpha=8", f"{MODEL}.lora_adapter_path={folder}"]
    opened = case(*asked)
    with at_start(opened) as merged:
        ours, theirs = (AutoModelForCausalLM.from_pretrained(one.student.path) for one in (opened, merged))
        gaps = [(a - b).abs().max() for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)]
        assert merged.prompts == opened.prompts and torch.stack(gaps).max() > 0.01
    plain = case()
    with at_start(plain) as same:
        assert same is plain


def test_verl_takes_the_layers_as_they_are_given():
    lora = [f"{MODEL}.lora_rank=4", f"{MODEL}.exclude_modules=[down_proj]"]
    config = compose(["experiment=tiny/schedule", *lora])
    assert Lora.of(config).modules == LINEAR[:-1] and Lora.of(config).label.startswith("LoRA of rank 4 on q_proj, ")
    OmegaConf.resolve(config)
    taken = omega_conf_to_dataclass(config.actor_rollout_ref.model)
    assert (taken.lora_rank, taken.target_modules, list(taken.exclude_modules)) == (4, "all-linear", ["down_proj"])
