"""Tiny models of other families than the miniature's, with its tokenizer and random weights."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from prefix_opd.miniature.sft import set_ends
from prefix_opd.miniature.tokenizer import IM_END, build_tokenizer

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,  # a random model with the usual 0.02 scores all tokens alike
}
FAMILIES = {
    "mixture": {
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "tie_word_embeddings": False,
    },
    "windows": {"model_type": "gemma3_text", "sliding_window": 16, "sliding_window_pattern": 2},
}


def write_model(folder: Path, family: str, seed: int = 0) -> Path:
    """Write one of `FAMILIES`; the same weights for the same seed."""
    tokenizer = build_tokenizer(IM_END)
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**SIZES, **FAMILIES[family], **ids, vocab_size=len(tokenizer))
    )
    set_ends(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
