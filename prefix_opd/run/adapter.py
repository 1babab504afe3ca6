"""The LoRA adapter of a checkpoint, as PEFT stores adapters, and merged into the student's weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from prefix_opd.config.lora import Lora
from prefix_opd.config.models import Model
from prefix_opd.run.checkpoints import ranks_of


def write_adapter(actor: Path, base: str, lora: Lora, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` from the shards of all ranks in a checkpoint's
    folder ``actor``. PEFT loads the adapter onto ``base``, the student's path."""
    from peft import LoraConfig, TaskType
    from safetensors.torch import save_file

    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.modules),
        base_model_name_or_path=base,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    save_file(_read_shards(actor), folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _read_shards(actor: Path) -> dict[str, object]:
    """Name, as PEFT stores it -> tensor. Reads tensors alone, never code."""
    import torch
    import torch.distributed.tensor

    ranks = ranks_of(actor) or 0
    files = [actor / f"model_world_size_{ranks}_rank_{rank}.pt" for rank in range(ranks)]
    shards = [torch.load(file, map_location="cpu", weights_only=True, mmap=True) for file in files]
    return {
        name.replace(".default.", "."): _whole([shard[name] for shard in shards])
        for name in shards[0]
        if ".lora_" in name
    }


def _whole(parts: list):
    """One tensor from the ranks' DTensors, which FSDP2 splits along one dimension."""
    import torch

    if not hasattr(parts[0], "placements"):
        return parts[0].contiguous()
    place = parts[0].placements[0]
    local = [part._local_tensor for part in parts]
    return (torch.cat(local, place.dim) if place.is_shard() else local[0]).contiguous()


def merge(base: Model, adapter: Path, folder: Path) -> None:
    """Write a Hugging Face folder: the base's weights plus the adapter's product, in the base's dtype.

    Tokenizer, chat template and generation config are the adapter's where it has them, as `export` writes them.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        base.place,
        dtype="auto",
        use_safetensors=True,
        trust_remote_code=base.trust_remote_code,
    )
    PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().save_pretrained(str(folder))
    base.tokenizer.save_pretrained(str(folder))
    for kind in ("*.json", "*.jinja", "*.txt", "*.model"):
        for path in adapter.glob(kind):
            if path.name != "adapter_config.json":
                shutil.copy(path, folder)
