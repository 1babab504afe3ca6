"""Checks of the models' files: weights, token ids, special tokens, end tokens."""

from __future__ import annotations

import math

from prefix_opd.base.errors import UserError
from prefix_opd.checks.case import Case
from prefix_opd.checks.finding import Finding, fail, ok, warn
from prefix_opd.config.decoder import DENSE_FAMILIES
from prefix_opd.config.models import Model, check_same_vocabulary

SPARE_ROWS_NATS = 0.01
"""A gap between sampler and trainer that is reported, nats per token."""


def safe_weights(case: Case) -> Finding:
    for model in (case.student, *(() if case.settings.teacher.urls else (case.teacher,))):
        model.check_weights(by_vllm_alone=model is not case.student)
    return ok("safetensors in both models, where their files can be listed")


def check_embedding(model: Model) -> tuple[int, int]:
    """Rows of the embedding and tokens of the tokenizer. Raises UserError if weights, config and tokenizer differ."""
    said, tokens = model.shape.vocab_size, len(model.tokenizer)
    rows = said if model.embedding_rows is None else model.embedding_rows
    if rows != said:
        rule = f"its weights have {rows} embedding rows, its config.json says {said}"
        raise UserError(model.what, rule, "give the config.json that belongs to the weights")
    if rows < tokens:
        rule = f"has {rows} embedding rows for {tokens} tokens: ids from {rows} on have none"
        raise UserError(model.what, rule, "resize its embeddings, or give the tokenizer that belongs to it")
    return rows, tokens


def embedding_rows(case: Case) -> Finding:
    """verl's sampler masks embedding rows beyond the tokenizer (verl/workers/rollout/vllm_rollout/utils.py:
    monkey_patch_compute_logits) while its trainer's softmax counts them, so their log p differ by
    -log(1 - mass of the spare rows)."""
    told, most = [], 0.0
    for name, model in (("student", case.student), ("teacher", case.teacher)):
        rows, tokens = check_embedding(model)
        told.append(f"{name} {rows - tokens} spare rows of {rows}")
        if name == "student":
            most = math.log(rows / tokens)
    reason = f"{', '.join(told)}; if the student's were as likely as its other rows, the trainer's log p would be "
    reason += f"{most:.4f} nats below the sampler's"
    if most > SPARE_ROWS_NATS:
        return warn(reason, "shrink the student's embedding to its tokenizer; --engines measures the gap")
    return ok(reason)


def sizes_of_weights(case: Case) -> Finding:
    """Weights that config.json does not describe: transformers would draw what is missing at random."""
    for model in (case.student, *(() if case.settings.teacher.urls else (case.teacher,))):
        check_sizes(model)
    return ok("as config.json says, where the files of a dense decoder are at hand")


def check_sizes(model: Model) -> None:
    """Reject weights of other sizes than config.json says, where they can be told. Raises UserError."""
    if problem := _misfit(model):
        raise UserError(model.what, problem, "give the config.json that belongs to the weights")


def _misfit(model: Model) -> str:
    sizes, plain = model.decoder, not {"text_config", "quantization_config"} & model.config.keys()
    if not model.tensors or model.config.get("model_type") not in DENSE_FAMILIES or not plain:
        return ""
    hidden, inner, heads = (sizes[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads"))
    width = sizes.get("head_dim") or hidden // heads
    queries, keys = heads * width, (sizes.get("num_key_value_heads") or heads) * width
    shapes = {f"self_attn.{name}_proj": [keys, hidden] for name in "kv"} | {"self_attn.q_proj": [queries, hidden]}
    shapes |= {f"mlp.{name}_proj": [inner, hidden] for name in ("gate", "up")}
    shapes |= {"self_attn.o_proj": [hidden, queries], "mlp.down_proj": [hidden, inner]}
    layers = sizes["num_hidden_layers"]
    needed = {f"model.layers.{i}.{name}.weight": shape for i in range(layers) for name, shape in shapes.items()}
    if not sizes.get("tie_word_embeddings"):
        needed["lm_head.weight"] = [sizes["vocab_size"], hidden]
    for name, shape in needed.items():
        if (found := model.tensors.get(name)) != shape:
            return f"{name} is {found or 'missing'} in its weights, and {shape} by its config.json"
    return (
        f"its weights have more than {layers} layers"
        if f"model.layers.{layers}.mlp.up_proj.weight" in model.tensors
        else ""
    )


def same_ids(case: Case) -> Finding:
    check_same_vocabulary(case.student, case.teacher)
    return ok(f"{len(case.student.tokenizer)} tokens, all with one id in both")


def same_special_tokens(case: Case) -> Finding:
    """A token that only one tokenizer treats as special is graded differently; different names are reported."""
    ours, theirs = (
        {index: (token.content, token.special) for index, token in model.tokenizer.added_tokens_decoder.items()}
        for model in (case.student, case.teacher)
    )
    for index in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(index), theirs.get(index)
        if mine != other:
            reason = f"id {index} is {_told(mine)} for the student and {_told(other)} for the teacher"
            return warn(reason, "take the tokenizer files of one family for both")
    return ok(f"{len(ours)} added tokens, special or not alike")


def _told(token: tuple[str, bool] | None) -> str:
    return "no added token" if token is None else f"{'the special' if token[1] else 'the plain'} token {token[0]!r}"


def end_tokens(case: Case) -> Finding:
    student, teacher, stops = set(case.student.end_token_ids), set(case.teacher.end_token_ids), set(case.stop_ids)
    reason = f"the student ends with {_names(case, student)}, the teacher with {_names(case, teacher)}, "
    reason += f"rollouts stop on {_names(case, stops)}"
    remedy, by_files = (
        "set prefix_opd.rollout.stop=both",
        "by their files; --engines counts how the teacher's texts end",
    )
    if not stops:
        return fail(f"{reason}: they never end", remedy)
    if not stops & teacher:
        return warn(f"{reason}: the student cannot learn to end as the teacher does", remedy)
    if student - stops:
        return warn(f"{reason}: the student continues after its own end token", remedy)
    if not student & teacher:
        reason += ": the teacher never samples the student's own end token, so the student's ending changes "
        reason += "once L reaches the end"
        remedy = "take a student with the teacher's end token, or let L reach the ends of answers"
        return warn(f"{reason} ({by_files})", remedy)
    return ok(f"{reason} ({by_files})")


def _names(case: Case, ids: set[int]) -> str:
    names = (f"{case.student.tokenizer.convert_ids_to_tokens(index)} ({index})" for index in sorted(ids))
    return ", ".join(names) or "nothing"
