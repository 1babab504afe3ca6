"""Adapters of the miniature's student, as PEFT writes them."""

import json
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from prefix_opd.miniature import shipped_models


def write_adapter(folder: Path, rank: int = 4, modules="all-linear", **changed) -> Path:
    """A random adapter. ``changed``: entries of ``adapter_config.json``."""
    model = AutoModelForCausalLM.from_pretrained(shipped_models()["student"])
    settings = LoraConfig(r=rank, lora_alpha=8, target_modules=modules, task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(model, settings).save_pretrained(folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    return folder
