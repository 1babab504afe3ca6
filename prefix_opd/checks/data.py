"""Checks of the training and validation rows."""

from __future__ import annotations

import json

from prefix_opd.base.errors import UserError
from prefix_opd.checks.case import Case
from prefix_opd.checks.finding import Finding, fail, ok, warn
from prefix_opd.checks.run_data import check_data, is_graded_by_us, rewards, sources
from prefix_opd.checks.teachers import check_sources
from prefix_opd.config.keys import TRAIN_KEY, VAL_KEY

MANY = 0.5
"""At this share of lost prompts or more, the limit is at fault rather than the data."""


def columns(key: str, case: Case) -> Finding:
    return ok(f"{check_data(case.config, key)} rows with verl's columns")


def teachers_of_sources(case: Case) -> Finding:
    check_sources(case.config)
    if len(case.by_teacher) == 1:
        return ok("one teacher scores all rows")
    rows = sources(case.config)
    told = (f"{one.teacher.path} scores the {rows[source]} rows of {source}" for source, one in case.by_teacher)
    return ok(f"each row has a teacher: {', '.join(told)}")


def empty_prompts(case: Case) -> Finding:
    for key, rows in ((TRAIN_KEY, case.train_messages), (VAL_KEY, case.val_messages)):
        empty = [i for i, messages in enumerate(rows) if not messages or not str(messages[-1]["content"] or "").strip()]
        if empty:
            reason = f"{len(empty)} of {len(rows)} prompts of {key} are empty, the first in row {empty[0]}"
            return fail(reason, "drop them")
    return ok("no prompt is empty")


def roles(case: Case) -> Finding:
    """A chat template may reject a system message, or two turns of one role; verl would drop such rows or fail."""
    orders = 0
    for key, rows in ((TRAIN_KEY, case.train_messages), (VAL_KEY, case.val_messages)):
        first = {tuple(message["role"] for message in rows[i]): i for i in reversed(range(len(rows)))}
        for order, number in first.items():
            try:
                case.render(case.student, [rows[number]])
            except UserError as error:
                return fail(f"row {number} of {key} ({', '.join(order)}): {error.rule}", error.fix)
        orders += len(first)
    return ok(f"the chat template renders all {orders} orders of roles in the data")


def long_prompts(case: Case) -> Finding:
    """Long prompts: verl's filter drops them silently; without the filter verl truncates them on the left
    (verl/utils/dataset/rl_dataset.py, verl/experimental/agent_loop/agent_loop.py: _cap_text_prompt_length)."""
    limit, dropped = case.config.data.max_prompt_length, case.config.data.filter_overlong_prompts
    told, lost, longest = [], 0.0, 0
    for key, prompts in ((TRAIN_KEY, case.prompts), (VAL_KEY, case.val_prompts)):
        long, most = sum(len(prompt) > limit for prompt in prompts), max(map(len, prompts))
        share = long / len(prompts)
        effect = f"verl drops {share:.1%} of the data" if dropped else "verl cuts their beginning off"
        reason = f"{long} of {len(prompts)} prompts of {key} exceed data.max_prompt_length={limit}, the longest has "
        told.append(f"{reason}{most} tokens" + (f": {effect}" if long else ""))
        lost, longest = max(lost, share), max(longest, most)
    reason = "; ".join(told)
    if not lost:
        return ok(reason)
    remedy = f"raise data.max_prompt_length to {longest}, or leave them out with `prefix-opd prepare --drop-long`"
    return warn(reason, remedy) if dropped and lost < MANY else fail(reason, remedy)


def duplicates(case: Case) -> Finding:
    both = (case.train_messages, case.val_messages)
    train, val = ([json.dumps(row, sort_keys=True) for row in rows] for rows in both)
    distinct = set(train)
    seen = sum(row in distinct for row in val)
    reason = f"{len(train) - len(distinct)} of {len(train)} training prompts are duplicates, "
    reason += f"{seen} of {len(val)} validation prompts are also training prompts"
    if seen:
        return warn(reason, "prepare the training data with --decontaminate-against the validation set")
    return warn(reason, "drop the copies") if len(distinct) < len(train) else ok(reason)


def true_answers(case: Case) -> Finding:
    """Validation rows without a true answer: this package's grader counts every answer to them as wrong."""
    truths = [row.get("ground_truth") for row in rewards(case.config)]
    lacking = sum(truth is None or not str(truth).strip() for truth in truths)
    if not is_graded_by_us(case.config):
        return ok(f"graded by {case.config.reward.custom_reward_function.path}")
    reason = f"{lacking} of {len(truths)} validation rows have no true answer"
    return warn(f"{reason}, so that every answer counts as wrong", "drop them") if lacking else ok(reason)
