"""The decoder in a Hugging Face config: its text part, with the defaults of its family, and its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefix_opd.base.errors import UserError, one_line
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.layers import EXPERTS

KEY_VALUE_HEADS = "num_key_value_heads"
SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", KEY_VALUE_HEADS),
    "vocab_size",
)
MAY_BE_NULL = ("head_dim", "max_position_embeddings", KEY_VALUE_HEADS)
ACTIVE = ("top_k_experts", "num_experts_per_tok")
MAY_BE_ZERO = (
    *EXPERTS,
    *ACTIVE,
    *("moe_intermediate_size", "shared_expert_intermediate_size", "n_shared_experts", "first_k_dense_replace"),
    *("decoder_sparse_step", "num_global_key_value_heads", "global_head_dim", "sliding_window"),
)
"""Sizes that a model without such layers leaves out, or has as null or 0."""
DENSE_FAMILIES = ("llama", "qwen2", "qwen3")
"""Families whose sizes are all in ``config.json`` and whose layers are alike unless it says otherwise."""
COUNTED_FAMILIES = {
    *DENSE_FAMILIES,
    *("gemma2", "gemma3_text", "gemma4_text", "glm4_moe", "gpt_oss", "mistral", "mixtral", "phi3", "qwen2_moe"),
    *("qwen3_moe", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"),
}
"""Families whose parameters are known to be those that `ModelShape` counts (tests/config/test_decoder.py)."""
CLOSE = 0.02
"""Difference to transformers' count, as a share, that norms and biases may make."""
FIX = "take a decoder of a family that docs/guide.md names"


def decoder_config(what: str, published: Mapping[str, Any]) -> dict[str, Any]:
    """The text part of a ``config.json``, completed by transformers: published configs leave out defaults.

    ``tie_word_embeddings`` is that of the whole model, which transformers ties by.

    Raises:
        UserError: a size that is no positive whole number; several architectures; transformers rejects the config.
    """
    check_architecture(what, published)
    text = published.get("text_config") or published
    if not isinstance(text, Mapping):
        raise UserError(what, f"its config.json has text_config={text}, not a group of sizes")
    for name in (*SIZES, *MAY_BE_NULL):
        value = text.get(name, 1)
        if not (type(value) is int and value > 0) and not (name in MAY_BE_NULL and value is None):
            raise UserError(what, f"its config.json has {name}={value!r}, not a whole number of at least 1")
    for name in MAY_BE_ZERO:
        if (value := text.get(name)) is not None and not (type(value) is int and value >= 0):
            raise UserError(what, f"its config.json has {name}={value!r}, not a whole number", "correct it")
    # configs of LLaMA's first models have no key-value heads: transformers knows the family's default
    lost = [name for name in SIZES if name != KEY_VALUE_HEADS and text.get(name) is None]
    if lost and published.get("model_type") in DENSE_FAMILIES and text is published:
        raise UserError(what, f"its config.json lacks {lost[0]!r}", FIX)
    if _is_whole(published):
        return dict(published)
    return _completed(what, published, text)


def _is_whole(published: Mapping[str, Any]) -> bool:
    """Whether nothing is left that transformers, which takes seconds to import, would fill in or rename."""
    named = all(published.get(name) is not None for name in (*SIZES, *MAY_BE_NULL, "tie_word_embeddings"))
    other = any(published.get(name) for name in ("rope_scaling", "sliding_window", "text_config"))
    return published.get("model_type") in DENSE_FAMILIES and named and not other


def check_architecture(what: str, published: Mapping[str, Any]) -> None:
    """Reject a model that is not one language model; a config may name no architecture. Raises UserError."""
    named, kind = published.get("architectures"), published.get("model_type")
    if named is None:
        return
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise UserError(what, f"its config.json names {named} as architectures, not one", FIX)
    if not named[0].endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")):
        raise UserError(what, f"is not a language model: its architecture is {named[0]}", FIX)
    if kind in DENSE_FAMILIES and named[0].lower() != f"{kind}forcausallm":
        raise UserError(what, f"its architecture {named[0]} is not of its model_type {kind}", "correct its config.json")


def _completed(what: str, published: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    from transformers import AutoConfig, logging
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = published.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        if not published.get("auto_map"):  # no code of its own
            rule = f"its config.json has model_type={kind!r}, which transformers does not know"
            raise UserError(what, rule, "correct it, or take another model")
        return {"tie_word_embeddings": published.get("tie_word_embeddings", False), **text}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        whole = AutoConfig.for_model(**published)
        tied = bool(whole.tie_word_embeddings)
        decoder = {**whole.get_text_config().to_dict(), "tie_word_embeddings": tied}
        if decoder["model_type"] not in COUNTED_FAMILIES:
            _check_count(what, whole.get_text_config(), shape_of(what, decoder), tied)
        return decoder
    except UserError:
        raise
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:160]
        rule = f"transformers rejects its config.json: {why}"
        raise UserError(what, rule, "correct it, or take another model") from None
    finally:
        logging.set_verbosity(verbosity)


def _check_count(what: str, config: Any, shape: ModelShape, tied: bool) -> None:
    """Reject a family whose parameters, as transformers builds it without memory, are not those counted."""
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(what, f"transformers has no language model of the kind {config.model_type} alone", FIX)
    family = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]  # imported before the device is another
    with torch.device("meta"):
        found = sum(weight.numel() for weight in family(config).parameters())
    counted = shape.all_parameters - (shape.vocab_size * shape.hidden_size if tied else 0)
    if abs(counted / found - 1) > CLOSE:
        rule = f"a model of the family {config.model_type} has {found:.3e} parameters, and {counted:.3e} are counted"
        raise UserError(what, rule, FIX)


def _check_together(what: str, decoder: Mapping[str, Any]) -> None:
    """Reject sizes that are valid separately but not together. Raises UserError."""
    layers, heads = decoder.get("num_hidden_layers"), decoder.get("num_attention_heads")
    for name in ("layer_types", "mlp_layer_types"):
        if (kinds := decoder.get(name)) and (not isinstance(kinds, list | tuple) or len(kinds) != layers):
            told = f"{len(kinds)} {name}" if isinstance(kinds, list | tuple) else f"{name}={kinds!r}"
            raise UserError(what, f"its config.json has {told} for {layers} layers", "name the kind of each layer")
    for name in (KEY_VALUE_HEADS, "num_global_key_value_heads"):
        if heads and (shared := decoder.get(name)) and heads % shared:
            rule = f"its config.json has {name}={shared}, which does not divide num_attention_heads={heads}"
            raise UserError(what, rule, "correct it")
    for name in EXPERTS:
        for active in ACTIVE:
            if (experts := decoder.get(name)) and (asked := decoder.get(active)) and asked > experts:
                raise UserError(what, f"its config.json has {active}={asked} of {name}={experts}", "correct it")


def shape_of(what: str, decoder: Mapping[str, Any]) -> ModelShape:
    """Sizes of a decoder. Raises UserError where one is missing, or where layers are of a kind that is not counted."""
    _check_together(what, decoder)
    try:
        return ModelShape.from_config(decoder)
    except KeyError as error:
        raise UserError(what, f"its config.json lacks {error.args[0]!r}", FIX) from None
    except TypeError as error:  # of a config whose code is its own: transformers checks the types of others
        raise UserError(what, f"its config.json has a size of another type ({one_line(error)})", "correct it") from None
    except ValueError as error:
        rule = f"{error} (model_type {decoder.get('model_type')}), whose parameters, FLOP and memory are not counted"
        raise UserError(what, rule, FIX) from None
