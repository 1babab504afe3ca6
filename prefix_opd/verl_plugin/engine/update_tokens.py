"""Fewer tokens through the model and its head in an update, with the same loss and gradient.

verl's engine computes logits for every token of a rollout, but the loss reads only those that predict sampled tokens.
The engine also computes a prompt once per rollout, although causal attention gives the same result each time. Two
savings follow. The model computes only the logits that the loss reads (Hugging Face's ``logits_to_keep``). In place of
padded sequences, the prompts of a micro-batch pass through the model once, and only attention is padded
(`prefix_opd.method.shared_prompts`). The outputs have verl's form: log-probs of whole rollouts, 0 at unread positions.
With ``fused_head`` the head returns the log-probs themselves (`fused_head`).

Both are off if the update reads more (entropy, images) or computes the head in another way (fused kernels,
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

from prefix_opd.base.patching import around
from prefix_opd.method.objective import Objective
from prefix_opd.method.shared_prompts import SharedPrompts, owners
from prefix_opd.verl_plugin.engine import fused_head, layers, packed_attention, topk
from prefix_opd.verl_plugin.fields import SETTINGS, plain_fields

FORM = "prefix_opd_form"
"""Key of a batch for the form of its passes. Micro-batches inherit it."""

KEPT = "prefix_opd_kept"
"""Key by which the input hook passes a `Kept` to the output hook."""

LAYOUT = "prefix_opd_shared_prompts"
"""Keyword argument that carries the layout through the model to its attention. Gradient checkpointing repeats a layer
with the same arguments, but outside any context around the pass; so the layout is an argument."""

PACKED, PADDED, SHARED = "packed", "padded", "shared"


@dataclass(frozen=True)
class Kept:
    """The K logits that a pass computes: one for each token that the student sampled, at the token that predicts it."""

    indices: Tensor
    """(K,) indices of the predicting tokens among the concatenated tokens of all rollouts."""
    labels: Tensor
    """(K,) sampled tokens."""
    temperatures: Tensor
    """(K,)"""
    offsets: Tensor
    """(R + 1,) start of each rollout among the K."""
    cells: Tensor | None = None
    """(K,) index of each in the flattened logits; None: the logits are exactly these K, in order."""
    teacher: dict[str, Tensor] | None = None
    """(K, k) columns with the teacher's top k; None: the loss reads the sampled tokens alone."""
    fused: bool = False
    """Whether the head returns log-probs in place of logits: (1, K), or (1, K, k) of the teacher's top k."""

    @classmethod
    def of(cls, micro_batch: TensorDict, temperatures: Tensor) -> Kept:
        """``temperatures``: (R,) one per rollout."""
        prompts, responses = (micro_batch[name].offsets().diff() for name in ("prompts", "responses"))
        input_ids = micro_batch["input_ids"]
        starts = torch.nn.functional.pad(responses.cumsum(0), (1, 0))
        # the prompt's last token predicts the first response token
        firsts = input_ids.offsets()[:-1] + prompts - 1 - starts[:-1]
        sampled = micro_batch["response_mask"].values().bool()  # (N,) False in a tool's output
        indices = (firsts.repeat_interleave(responses) + torch.arange(len(sampled), device=starts.device))[sampled]
        offsets = torch.nn.functional.pad(sampled.cumsum(0), (1, 0))[starts]
        labels, temperatures = input_ids.values()[indices + 1], temperatures.repeat_interleave(offsets.diff())
        teacher = {name: micro_batch[name].values()[indices] for name in _TOP_K} if _reads_topk(micro_batch) else None
        return cls(indices, labels, temperatures, offsets, teacher=teacher)

    def fused_labels(self, loss: Objective) -> Tensor | None:
        """Tokens whose log-probs the fused head returns: (K,), or (K, k); None: the loss reads logits."""
        if self.teacher is None:
            return self.labels
        return None if loss.is_verls else self.teacher["teacher_ids"].long()

    def outputs(
        self, verls_own: Callable[..., dict], output: Any, output_args: dict, micro_batch: TensorDict, processor: Any
    ) -> dict:
        """verl's outputs for whole rollouts. verl's own method computes them as if the responses were packed.

        ``processor``: its function from logits to the losses of a top-k objective.
        """
        from verl.utils.tensordict_utils import get_non_tensor_data

        if self.fused:
            found = output.logits.squeeze(0)
            if self.teacher is None:
                return {"log_probs": self._whole(found, micro_batch["input_ids"])}
            loss = get_non_tensor_data(micro_batch, SETTINGS, default=None).loss
            losses = topk.losses_of(loss, found.float(), self.teacher["teacher_logprobs"].float())
            return {name: self._whole(values, micro_batch["input_ids"]) for name, values in losses.items()}
        if self.cells is not None:
            output.logits = output.logits.flatten(0, 1).index_select(0, self.cells).unsqueeze(0)
        args = {
            "temperature_is_one": output_args["temperature_is_one"],
            "input_ids_rmpad_rolled": self.labels,
            "temperature_rmpad": self.temperatures,
            "pad_size": 0,
        }
        columns = {"input_ids": self.labels, **(self.teacher or {})}
        columns = {name: torch.nested.nested_tensor_from_jagged(one, self.offsets) for name, one in columns.items()}
        stand_in = TensorDict(columns, batch_size=micro_batch.batch_size)
        stand_in.set_non_tensor("use_remove_padding", True)
        for name in (SETTINGS, "distillation_use_topk", "distillation_only") if self.teacher else ():
            stand_in.set_non_tensor(name, get_non_tensor_data(micro_batch, name, default=None))
        found = verls_own(output, args, stand_in, processor)
        return {name: self._whole(values.values(), micro_batch["input_ids"]) for name, values in found.items()}

    def _whole(self, values: Tensor, input_ids: Tensor) -> Tensor:
        whole = values.new_zeros(len(input_ids.values())).index_put((self.indices,), values)
        return torch.nested.nested_tensor_from_jagged(whole, input_ids.offsets())


_TOP_K = ("teacher_logprobs", "teacher_ids")


def _reads_topk(data: TensorDict) -> bool:
    from verl.utils.tensordict_utils import get_non_tensor_data

    return get_non_tensor_data(data, "distillation_use_topk", default=False)


def _ask_packed(micro_batch: TensorDict, inputs: dict, output_args: dict) -> Kept:
    first_tokens = micro_batch["input_ids"].offsets()[:-1]
    kept = Kept.of(micro_batch, output_args["temperature_rmpad"][first_tokens])
    inputs["logits_to_keep"] = kept.indices
    return kept


def _ask_padded(micro_batch: TensorDict, inputs: dict, output_args: dict) -> Kept:
    kept = Kept.of(micro_batch, output_args["temperature"])
    starts, lengths = micro_batch["input_ids"].offsets()[:-1], kept.offsets.diff()
    rows = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    columns = kept.indices - starts[rows]
    first = int(columns.min())  # every row keeps the same columns, from the end of the shortest prompt
    width = inputs["logits_to_keep"] = inputs["input_ids"].shape[1] - first
    return replace(kept, cells=rows * width + columns - first)


def _ask_shared(micro_batch: TensorDict, inputs: dict, output_args: dict) -> Kept:
    from verl.utils.tensordict_utils import get_non_tensor_data

    layout = SharedPrompts(
        *(micro_batch[name].offsets().diff().tolist() for name in ("prompts", "responses")),
        owners(micro_batch["prompts"].unbind()),
        inputs["input_ids"].device,
    )
    inputs["input_ids"], inputs["position_ids"] = (
        micro_batch[name].values()[layout.tokens].unsqueeze(0) for name in ("input_ids", "position_ids")
    )
    # A mask of four dimensions counts as finished, so no mask is built. Its size is zero, so that any attention other
    # than ours fails on it.
    inputs["attention_mask"] = torch.empty(1, 1, 0, 0, dtype=torch.bool, device=layout.tokens.device)
    inputs[LAYOUT] = layout
    cells = layout.predicting[micro_batch["response_mask"].values().bool()]
    if get_non_tensor_data(micro_batch, SETTINGS, default=None).update.response_logits_only:
        # unique, as rollouts share the prompt's last token: models select by [], whose backward pass adds repeated
        # indices in thread order and is not deterministic
        inputs["logits_to_keep"], cells = cells.unique(return_inverse=True)
    return replace(Kept.of(micro_batch, output_args["temperature"]), cells=cells)


_ASK = {PACKED: _ask_packed, PADDED: _ask_padded, SHARED: _ask_shared}


@around
def by_layout(sdpa, module, query, key, value, attention_mask, dropout=0.0, scaling=None, **others):
    """``sdpa`` attention. A pass with a layout uses the layout's attention."""
    layout: SharedPrompts | None = others.get(LAYOUT)
    if layout is None:
        return sdpa(module, query, key, value, attention_mask, dropout, scaling, **others)
    return layout.attention(query, key, value, scaling, dropout), None


def _model(engine: Any) -> Any:
    module = getattr(engine.module, "module", engine.module)  # FSDP1 wraps it
    # PEFT wraps it, and passes arguments on
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def _form(tu: ModuleType, engine: Any, data: TensorDict) -> str | None:
    """The form of the passes over a batch; None: verl's own. ``tu``: verl.utils.tensordict_utils."""
    read = functools.partial(tu.get_non_tensor_data, data)
    settings = read(SETTINGS, default=None)
    if settings is None or any(read(name, default=False) for name in _READ_MORE):
        return None
    module = _model(engine)
    chooses = "logits_to_keep" in signature(module.forward).parameters
    if engine.use_ulysses_sp or engine.pad_to_length or not chooses or not _are_whole(data):
        return None
    packed = read("use_remove_padding", default=True)
    if settings.update.share_prompts and not packed and _can_share(module, data):
        return SHARED
    if settings.update.response_logits_only:
        return PACKED if packed else PADDED
    return None


_READ_MORE = ("use_fused_kernels", "calculate_entropy", "calculate_sum_pi_squared")
"""Settings that compute the head in another way, or read the logits of other tokens."""


def _are_whole(data: TensorDict) -> bool:
    """Whether each sequence is a non-empty prompt followed by a non-empty response."""
    if not all(name in data and data[name].is_nested for name in ("input_ids", "prompts", "responses")):
        return False
    total, prompts, responses = (data[name].offsets().diff() for name in ("input_ids", "prompts", "responses"))
    return bool((prompts > 0).all() and (responses > 0).all() and (prompts + responses == total).all())


def _can_share(module: Any, data: TensorDict) -> bool:
    """Whether only attention mixes tokens, attention is causal without a window, and the model looks up "sdpa"."""
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


@around
def choosing_the_form(verls_own, self, data, loss_function, forward_only=False):
    """``FSDPEngineWithLMHead.forward_backward_batch`` that marks a batch with the form of its passes.

    Batches without our settings keep verl's form.
    """
    from verl.utils import tensordict_utils as tu
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    # a pass for log-probs has other readers, and a subclass has other inputs and outputs
    if not forward_only and type(self) is FSDPEngineWithLMHead:
        form, module = _form(tu, self, data), _model(self)
        tu.assign_non_tensor(data, **{FORM: form})
        settings = tu.get_non_tensor_data(data, SETTINGS, default=None)
        fuses = form is not None and fused_head.plain_head(module) is not None
        fuses = fuses and not (_reads_topk(data) and settings.loss.is_verls)
        layers.prepare(self, module, data, fuses)
    return verls_own(self, data, loss_function, forward_only)


@around
def inputs_of_the_form(verls_own, self, micro_batch):
    """``FSDPEngineWithLMHead.prepare_model_inputs`` that changes the inputs to the form of the batch."""
    from verl.utils import tensordict_utils as tu

    inputs, output_args = verls_own(self, micro_batch)
    model, offsets = _model(self), micro_batch["input_ids"].offsets()
    packed = tu.get_non_tensor_data(micro_batch, key="use_remove_padding", default=True)
    if packed and not self.use_ulysses_sp and not output_args["pad_size"] and packed_attention.takes_bounds(model):
        inputs.update(packed_attention.bounds(offsets))
    form = tu.get_non_tensor_data(micro_batch, key=FORM, default=None)
    if form is None:
        return inputs, output_args
    kept = _ASK[form](micro_batch, inputs, output_args)
    settings = tu.get_non_tensor_data(micro_batch, key=SETTINGS, default=None)
    head, labels = fused_head.plain_head(model), kept.fused_labels(settings.loss)
    if settings.update.fused_head and head is not None and labels is not None:
        kept = replace(kept, fused=True)
        fused_head.ask(
            head,
            labels=labels,
            temperatures=None if output_args["temperature_is_one"] else kept.temperatures,
            keep=not layers.are_checkpointed(model),
            compiled=settings.update.compile_layers,
            cells=kept.cells,
        )
    output_args[KEPT] = kept
    return inputs, output_args


@around
def outputs_of_the_form(verls_own, self, output, output_args, micro_batch, logits_processor_func):
    """``FSDPEngineWithLMHead.prepare_model_outputs`` that reads the logits which the model kept."""
    kept: Kept | None = output_args.get(KEPT)
    if kept is None:
        return verls_own(self, output, output_args, micro_batch, logits_processor_func)
    return kept.outputs(functools.partial(verls_own, self), output, output_args, micro_batch, logits_processor_func)
