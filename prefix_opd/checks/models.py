"""Checks of the models' files: weights, token ids, special tokens, end tokens."""

from __future__ import annotations

import math

from prefix_opd.base.errors import UserError, one_line
from prefix_opd.checks.case import Case
from prefix_opd.checks.finding import Finding, fail, ok, warn
from prefix_opd.config.decoder import DENSE_FAMILIES
from prefix_opd.config.models import Model, check_same_vocabulary

HEAD, ROTARY = "lm_head.weight", "rotary_emb."
"""The head, whose weights a tied model may hold twice; and what old files hold of rotary embeddings, which no loader
reads."""
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
    plain = not {"text_config", "quantization_config"} & model.config.keys()
    if not model.tensors or model.config.get("model_type") not in DENSE_FAMILIES or not plain:
        return ""  # transformers and vLLM rename the weights of other families when they load them
    needed = _built(model)
    tied = {HEAD} if model.decoder.get("tie_word_embeddings") else set()
    for name, shape in needed.items():
        if name not in tied and (found := model.tensors.get(name)) != shape:
            return f"{name} is {found or 'missing'} in its weights, and {shape} by its config.json"
    more = (name for name in model.tensors.keys() - needed.keys() - {HEAD} if ROTARY not in name)
    return f"{name} is in its weights, and not by its config.json" if (name := min(more, default="")) else ""


def _built(model: Model) -> dict[str, list[int]]:
    """Name -> shape of each parameter, as transformers builds the model without memory. Raises UserError."""
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

    # verl takes the tokenizer's padding, and a run chooses the attention, which may not be installed here
    published = {**model.config, "pad_token_id": None, "attn_implementation": "eager"}
    try:
        made = AutoConfig.for_model(**published)
        MODEL_FOR_CAUSAL_LM_MAPPING[type(made)]  # imports modules, which read the values of tensors
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(made)
    except Exception as error:  # of any of its values
        rule = f"transformers does not build the model of its config.json ({one_line(error)})"
        raise UserError(model.what, rule, "correct it") from None
    return {name: list(weight.shape) for name, weight in built.named_parameters()}


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
