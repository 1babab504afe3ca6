"""Fewer tokens through the model and its head in an update, with the same loss and gradient.

verl's engine computes logits for every token of a rollout; the loss reads those that predict response tokens. And it
computes a prompt once for each of its rollouts, which causal attention makes the same each time. Here the model is
asked for those logits alone (Hugging Face's ``logits_to_keep``), and where sequences would be padded, the prompts of a
micro-batch go through it once, and nothing is padded but in attention (`prefix_opd.method.shared_prompts`). What comes
out has verl's form: log-probs of whole rollouts, 0 where nobody reads.

Both stand aside for whatever reads more (entropy, top-k, images), or computes the head otherwise (fused kernels,
sequence parallelism, a model or an adapter without ``logits_to_keep``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from types import ModuleType
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from prefix_opd.method.shared_prompts import SharedPrompts, owners
from prefix_opd.verl_plugin.fields import SETTINGS, plain_fields

FORM = "prefix_opd_form"
"""Under this name a batch carries what its passes are to be; each micro-batch that is cut from it has it, too."""

KEPT = "prefix_opd_kept"
"""Under this name one hook tells the other for which logits the model was asked."""

LAYOUT = "prefix_opd_shared_prompts"
"""Under this name a layout goes with a pass, by the keyword arguments that a model hands on to its attention. So it is
there again when gradient checkpointing repeats a layer, which is later than any context around the pass."""

PACKED, PADDED, SHARED = "packed", "padded", "shared"


@dataclass(frozen=True)
class Kept:
    """The logits that a pass was asked for: of each response token, those that predict it."""

    indices: Tensor
    """(K,) among the tokens of all rollouts, one after the other, those that predict a response token."""
    labels: Tensor
    """(K,) the response tokens."""
    temperatures: Tensor
    """(K,)"""
    offsets: Tensor
    """(R + 1,) where each response begins among the K."""
    cells: Tensor | None = None
    """(K,) where each stands in the logits, row after row; none: they are the logits, in this order."""

    @classmethod
    def of(cls, micro_batch: TensorDict, temperatures: Tensor) -> Kept:
        """``temperatures``: of each rollout."""
        prompts, responses = (micro_batch[name].offsets().diff() for name in ("prompts", "responses"))
        input_ids = micro_batch["input_ids"]
        offsets = torch.nn.functional.pad(responses.cumsum(0), (1, 0))
        # the first is predicted by the prompt's last token
        firsts = input_ids.offsets()[:-1] + prompts - 1 - offsets[:-1]
        indices = firsts.repeat_interleave(responses) + torch.arange(int(offsets[-1]), device=offsets.device)
        return cls(indices, input_ids.values()[indices + 1], temperatures.repeat_interleave(responses), offsets)

    def outputs(self, verls_own: Callable[..., dict], output: Any, output_args: dict, micro_batch: TensorDict) -> dict:
        """verl's outputs, formed by its own method as for packed responses, each in its rollout's place."""
        if self.cells is not None:
            output.logits = output.logits.flatten(0, 1).index_select(0, self.cells).unsqueeze(0)
        args = {
            "temperature_is_one": output_args["temperature_is_one"],
            "input_ids_rmpad_rolled": self.labels,
            "temperature_rmpad": self.temperatures,
            "pad_size": 0,
        }
        responses = torch.nested.nested_tensor_from_jagged(self.labels, self.offsets)
        stand_in = TensorDict({"input_ids": responses}, batch_size=micro_batch.batch_size)
        stand_in.set_non_tensor("use_remove_padding", True)
        found = verls_own(output, args, stand_in, None)
        return {name: self._whole(values.values(), micro_batch["input_ids"]) for name, values in found.items()}

    def _whole(self, values: Tensor, input_ids: Tensor) -> Tensor:
        whole = values.new_zeros(len(input_ids.values())).index_put((self.indices,), values)
        return torch.nested.nested_tensor_from_jagged(whole, input_ids.offsets())


def _ask_packed(micro_batch: TensorDict, inputs: dict, output_args: dict) -> None:
    first_tokens = micro_batch["input_ids"].offsets()[:-1]
    kept = Kept.of(micro_batch, output_args["temperature_rmpad"][first_tokens])
    inputs["logits_to_keep"] = kept.indices
    output_args[KEPT] = kept


def _ask_padded(micro_batch: TensorDict, inputs: dict, output_args: dict) -> None:
    kept = Kept.of(micro_batch, output_args["temperature"])
    starts, lengths = micro_batch["input_ids"].offsets()[:-1], kept.offsets.diff()
    rows = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    columns = kept.indices - starts[rows]
    first = int(columns.min())  # the logits to keep are the same columns of every row: from the shortest prompt's end
    width = inputs["logits_to_keep"] = inputs["input_ids"].shape[1] - first
    output_args[KEPT] = replace(kept, cells=rows * width + columns - first)


def _ask_shared(micro_batch: TensorDict, inputs: dict, output_args: dict) -> None:
    from verl.utils.tensordict_utils import get_non_tensor_data

    layout = SharedPrompts(
        *(micro_batch[name].offsets().diff().tolist() for name in ("prompts", "responses")),
        owners(micro_batch["prompts"].unbind()),
        inputs["input_ids"].device,
    )
    inputs["input_ids"], inputs["position_ids"] = (
        micro_batch[name].values()[layout.tokens].unsqueeze(0) for name in ("input_ids", "position_ids")
    )
    # Of four dimensions it is taken for a finished mask, and none is made; of no size, so that an attention other than
    # ours cannot use it and says so.
    inputs["attention_mask"] = torch.empty(1, 1, 0, 0, dtype=torch.bool, device=layout.tokens.device)
    inputs[LAYOUT] = layout
    cells = layout.predicting
    if get_non_tensor_data(micro_batch, SETTINGS, default=None).update.response_logits_only:
        # each once, a prompt's last token too: models pick them by brackets, whose gradient adds what repeated ones
        # bring in the order in which threads come
        inputs["logits_to_keep"], cells = cells.unique(return_inverse=True)
    output_args[KEPT] = replace(Kept.of(micro_batch, output_args["temperature"]), cells=cells)


_ASK = {PACKED: _ask_packed, PADDED: _ask_padded, SHARED: _ask_shared}


def by_layout(sdpa: Callable) -> Callable:
    """Attends by the layout of a pass, and as before where there is none."""

    @functools.wraps(sdpa)
    def attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **others):
        layout: SharedPrompts | None = others.get(LAYOUT)
        if layout is None:
            return sdpa(module, query, key, value, attention_mask, dropout, scaling, **others)
        return layout.attention(query, key, value, scaling, dropout), None

    return attention


def _form(tu: ModuleType, engine: Any, data: TensorDict) -> str | None:
    """What the passes over a batch can be; none: verl's own. ``tu``: verl.utils.tensordict_utils."""
    read = functools.partial(tu.get_non_tensor_data, data)
    settings = read(SETTINGS, default=None)
    if settings is None or any(read(name, default=False) for name in _READ_MORE):
        return None
    module = getattr(engine.module, "module", engine.module)  # FSDP1 wraps it
    chooses = "logits_to_keep" in signature(module.forward).parameters
    if engine.use_ulysses_sp or engine.pad_to_length or not chooses or not _are_whole(data):
        return None
    packed = read("use_remove_padding", default=True)
    if settings.update.share_prompts and not packed and _can_share(module, data):
        return SHARED
    if settings.update.response_logits_only:
        return PACKED if packed else PADDED
    return None


_READ_MORE = (
    "use_fused_kernels",
    "calculate_entropy",
    "calculate_sum_pi_squared",
    "distillation_use_topk",
    "distillation_only",
)
"""What computes the head otherwise, or reads the logits of other tokens."""


def _are_whole(data: TensorDict) -> bool:
    """Whether each sequence is a prompt of some tokens, a response of some, and no more."""
    if not all(name in data and data[name].is_nested for name in ("input_ids", "prompts", "responses")):
        return False
    total, prompts, responses = (data[name].offsets().diff() for name in ("input_ids", "prompts", "responses"))
    return bool((prompts > 0).all() and (responses > 0).all() and (prompts + responses == total).all())


def _can_share(module: Any, data: TensorDict) -> bool:
    """Whether attention is all that mixes tokens, is causal without a window, and is looked up where ours is."""
    config = module.config
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    windowed = getattr(config, "sliding_window", None) is not None and not getattr(config, "layer_types", None)
    return (
        getattr(module, "_supports_attention_backend", False)
        and config._attn_implementation == "sdpa"
        and set(kinds) == {"full_attention"}
        and not windowed
        and config.get_text_config() is config
        and not any(plain_fields(entry) for entry in data.get("multi_modal_inputs", []))
        and data["position_ids"].dim() == 2
    )


def choosing_the_form(verls_own: Callable) -> Callable:
    """``FSDPEngineWithLMHead.forward_backward_batch`` that marks a batch with the form of its passes.

    Batches without settings stay verl's.
    """
    from verl.utils import tensordict_utils as tu
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    @functools.wraps(verls_own)
    def forward_backward_batch(self, data, loss_function, forward_only=False):
        # a pass for log-probs has readers of its own, and a subclass its own inputs and outputs
        if not forward_only and type(self) is FSDPEngineWithLMHead:
            tu.assign_non_tensor(data, **{FORM: _form(tu, self, data)})
        return verls_own(self, data, loss_function, forward_only)

    return forward_backward_batch


def inputs_of_the_form(verls_own: Callable) -> Callable:
    """``FSDPEngineWithLMHead.prepare_model_inputs`` for the form that the batch is marked with."""
    from verl.utils import tensordict_utils as tu

    @functools.wraps(verls_own)
    def prepare_model_inputs(self, micro_batch):
        inputs, output_args = verls_own(self, micro_batch)
        form = tu.get_non_tensor_data(micro_batch, key=FORM, default=None)
        if form is not None:
            _ASK[form](micro_batch, inputs, output_args)
        return inputs, output_args

    return prepare_model_inputs


def outputs_of_the_form(verls_own: Callable) -> Callable:
    """``FSDPEngineWithLMHead.prepare_model_outputs`` for the logits that the model was asked for."""

    @functools.wraps(verls_own)
    def prepare_model_outputs(self, output, output_args, micro_batch, logits_processor_func):
        kept: Kept | None = output_args.get(KEPT)
        if kept is None:
            return verls_own(self, output, output_args, micro_batch, logits_processor_func)
        return kept.outputs(functools.partial(verls_own, self), output, output_args, micro_batch)

    return prepare_model_outputs
