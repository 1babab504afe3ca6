"""Random-weight Qwen3 models. The cost of a step does not depend on the weights' values.

`SIZES`: several sizes for a CPU, with the miniature's tokenizer. Student and teacher have the same architecture.
`PAIRS`: pairs with published shapes for a GPU, with a tokenizer of their vocabulary's size. A word is a token.

    python -m benchmarks.models 1.7B-8B outputs/benchmarks/models
"""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path

from prefix_opd.miniature import shipped_models

_FIELDS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
SIZES = {
    name: dict(zip(_FIELDS, sizes, strict=True))
    for name, sizes in {
        "0.1M": (48, 2, 2, 1, 32),
        "1M": (128, 6, 4, 2, 32),
        "6M": (256, 8, 8, 4, 32),
        "25M": (512, 8, 8, 4, 64),
    }.items()
}
"""By the number of parameters. The gated MLP is three times as wide as the residual stream."""

_SMALL = {**dict(zip(_FIELDS, (64, 2, 4, 2, 32), strict=True)), "intermediate_size": 128, "vocab_size": 1024}
PAPER_PAIR, REHEARSAL = "1.7B-8B", "rehearsal"
PAIRS: dict[str, dict[str, tuple[str, dict[str, int]]]] = {
    PAPER_PAIR: {"student": ("Qwen3-1.7B-Base", {}), "teacher": ("Qwen3-8B", {})},
    REHEARSAL: dict.fromkeys(("student", "teacher"), ("Qwen3-1.7B-Base", _SMALL)),
}
"""Pair -> role -> a published shape (`prefix_opd/config/model_shapes`) and the sizes that differ from it."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|{i}|>" for i in range(21)), "<think>", "</think>")
BEYOND = 293
"""Embedding rows of Qwen3 after the last plain word: 26 special tokens, the others without a token."""
_END = {"student": "<|endoftext|>", "teacher": "<|im_end|>"}
_TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
_SEEDS = {"student": 0, "teacher": 1}


def model_folders(size: str, parent: Path) -> dict[str, Path]:
    """``{"student": ..., "teacher": ...}`` for a size: where `make_models` puts them."""
    return {role: parent / f"{size}_{role}" for role in _SEEDS}


def make_models(size: str, parent: Path) -> None:
    """Make the models of a size or a pair under ``parent`` that are not there yet."""
    for role, folder in model_folders(size, parent).items():
        if (folder / "config.json").exists():
            continue
        draft = folder.with_name(folder.name + ".tmp")
        if size in PAIRS:
            _make_published(*PAIRS[size][role], role, draft)
        else:
            _make(SIZES[size], role, draft)
        draft.rename(folder)


def _make(size: dict[str, int], role: str, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, GenerationConfig, Qwen3ForCausalLM

    torch.manual_seed(_SEEDS[role])
    shipped = shipped_models()[role]
    model = Qwen3ForCausalLM(qwen3_config(size, shipped))
    model.generation_config = GenerationConfig.from_pretrained(shipped)
    AutoTokenizer.from_pretrained(shipped).save_pretrained(folder)
    model.save_pretrained(folder)


def qwen3_config(size: dict[str, int], shipped: Path):
    """The configuration of a shipped model with other sizes."""
    from transformers import Qwen3Config

    fields = Qwen3Config.from_pretrained(shipped).to_dict()
    fields.pop("layer_types", None)  # one word a layer, for another number of layers
    return Qwen3Config(**{**fields, **size, "intermediate_size": 3 * size["hidden_size"]})


def _make_published(shape: str, changed: dict[str, int], role: str, folder: Path) -> None:
    """bf16 weights, drawn on the GPU if there is one: 8B take minutes on a CPU."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    text = (resources.files("prefix_opd.config") / "model_shapes" / f"{shape}.json").read_text()
    sizes = {**json.loads(text), **changed}
    tokenizer = word_tokenizer(sizes["vocab_size"] - BEYOND, _END[role])
    tokenizer.save_pretrained(folder)
    config = Qwen3Config(**sizes, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    config.dtype = torch.bfloat16
    torch.manual_seed(_SEEDS[role])
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            Qwen3ForCausalLM(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)


def word_tokenizer(words: int, end: str):
    """Words "w0", "w2", … as tokens 0, 2, …, and `SPECIAL` after them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"w{i}": i for i in range(words)}
    del vocabulary["w1"]
    vocabulary["\n"] = 1  # verl requires a newline that is one token (verl/utils/tokenizer/continuous_token.py)
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    made.decoder = decoders.Fuse()
    made.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, pad_token="<|endoftext|>")
    fast.chat_template = _TEMPLATE
    return fast


if __name__ == "__main__":
    make_models(sys.argv[1], Path(sys.argv[2]))
