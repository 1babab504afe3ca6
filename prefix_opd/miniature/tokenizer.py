"""A tokenizer with Qwen3's special tokens and chat template, and one token per character for nearly all other text.

It is byte-level, so it encodes any text, and small, so that the embedding does not dominate a tiny model. Teacher and
student share all ids. Their end tokens differ, as those of Qwen3 and Qwen3-Base do.
"""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
THINK, THINK_END = "<think>", "</think>"
SPECIAL = (END_OF_TEXT, IM_START, IM_END)
# One token each, but not special, as in Qwen3: verl grades text that was decoded without special tokens.
TAGS = (THINK, THINK_END)
ROLES = ("system", "user", "assistant")

# Qwen's rule for splitting text: words, single digits, runs of signs, line ends, spaces.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def build_tokenizer(eos_token: str = IM_END) -> PreTrainedTokenizerFast:
    """Build the tokenizer. ``eos_token`` is ``<|im_end|>`` for the teacher, ``<|endoftext|>`` for the base student."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet()) + list(ROLES)
    # Without merges, ignore_merges makes a role name one token and splits all other words into bytes.
    model = models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], ignore_merges=True)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    backend.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=eos_token,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def prompt_text(tokenizer: PreTrainedTokenizerFast, question: str) -> str:
    """The text before the response, with ``<think>`` at its end: a sampled KL learns special tokens badly."""
    messages = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + THINK
