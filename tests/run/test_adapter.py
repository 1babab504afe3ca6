"""An adapter from a checkpoint's shards, and merged into its base."""

import json
import os
from tempfile import TemporaryDirectory

import torch
from adapters import write_adapter as by_peft
from peft import PeftModel
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefix_opd.base.files import whole_folder
from prefix_opd.config.lora import Lora
from prefix_opd.config.models import Model
from prefix_opd.method.lora import LINEAR
from prefix_opd.miniature import shipped_models
from prefix_opd.run.adapter import merge, write_adapter

STUDENT = str(shipped_models()["student"])


def test_the_shards_of_two_ranks_become_one_adapter(tmp_path, group):
    """Rank 1's file stands for the second half of each tensor that FSDP2 splits."""
    actor = tmp_path / "actor"
    actor.mkdir()
    for rank in range(4):  # of an older layout
        (actor / f"model_world_size_4_rank_{rank}.pt").write_bytes(b"")
        os.utime(actor / f"model_world_size_4_rank_{rank}.pt", (0, 0))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.default.weight"
    mesh = init_device_mesh("cpu", (1,))
    halves = torch.arange(8.0).reshape(4, 2).chunk(2)
    for rank, half in enumerate(halves):
        shard = {
            name.format("A"): distribute_tensor(half, mesh, [Shard(0)]),
            name.format("B"): distribute_tensor(torch.ones(3, 4), mesh, [Replicate()]),
            "base_model.model.lm_head.weight": torch.zeros(5),
        }
        torch.save(shard, actor / f"model_world_size_2_rank_{rank}.pt")
    write_adapter(actor, STUDENT, Lora(4, 8, ("q_proj", "v_proj"), False), tmp_path / "out")
    found = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {key.rpartition("lora_")[2]: one.tolist() for key, one in found.items()} == {
        "A.weight": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]],
        "B.weight": torch.ones(3, 4).tolist(),
    }
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["base_model_name_or_path"]) == (4, 8, STUDENT)
    assert sorted(settings["target_modules"]) == ["q_proj", "v_proj"]


def test_merged_it_computes_as_beside_its_base(tmp_path):
    adapter = by_peft(tmp_path / "adapter")
    (adapter / "generation_config.json").write_text('{"eos_token_id": [7]}')
    merge(Model("model", STUDENT), adapter, tmp_path / "merged")
    ids = torch.arange(40)[None]
    base = AutoModelForCausalLM.from_pretrained(STUDENT)
    with torch.no_grad():
        before = base(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
        beside = PeftModel.from_pretrained(base, adapter)(ids).logits
    assert (merged - beside).abs().max() < 1e-3 < (before - beside).abs().max()
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template, "the base's, as the adapter has none"
    assert Model("model", str(tmp_path / "merged")).end_token_ids == [7, 259]
    assert Model("model", str(tmp_path / "merged")).linear_layers == set(LINEAR)


def test_an_export_may_name_a_place_that_does_not_exist(tmp_path):
    """The adapter that is merged is written beside the export, before the export itself."""
    folder = tmp_path / "new" / "place" / "model"
    with whole_folder(folder) as draft:
        with TemporaryDirectory(dir=folder.parent):
            draft.mkdir()
        assert not folder.exists()
    assert folder.is_dir() and not draft.exists()
