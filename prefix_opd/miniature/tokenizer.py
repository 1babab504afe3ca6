"""A tokenizer with Qwen3's special tokens and chat template, and one token a character for nearly all else.

It is byte-level, so any text has ids, and small, so that a tiny model is not all embedding. The teacher and the
student share every id. They differ in the token with which they end, as Qwen3 and Qwen3-Base do.
"""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
THINK, THINK_END = "<think>", "</think>"
SPECIAL = (END_OF_TEXT, IM_START, IM_END)
# One token each, but plain text to a decoder that skips special tokens, as in Qwen3: verl grades such text.
TAGS = (THINK, THINK_END)
ROLES = ("system", "user", "assistant")

# Qwen's own rule for cutting text into pieces: words, single digits, runs of signs, line ends, spaces.
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
    """Make the tokenizer. ``eos_token`` is ``<|im_end|>`` for the teacher, ``<|endoftext|>`` for the base student."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet()) + list(ROLES)
    # No merges: ignore_merges makes a whole role name one token and leaves all other words to single bytes.
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
    """The text before the response. ``<think>`` is forced here, since a sampled KL learns rare tokens badly."""
    messages = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + THINK
