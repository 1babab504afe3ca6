"""Checks of the prompts that student and teacher see."""

from __future__ import annotations

from itertools import zip_longest
from textwrap import shorten

from prefix_opd.base.errors import UserError
from prefix_opd.checks.case import Case
from prefix_opd.checks.chat_template import template_variables
from prefix_opd.checks.finding import Finding, ok, warn
from prefix_opd.checks.teachers import check_teacher_prompts
from prefix_opd.method.prompt import THINK_END, has_switch, opens_thinking, prompt_end

SHOWN_AT_EACH_END = 24
"""Number of tokens shown at each end of a long prompt."""


def forced_ending(case: Case) -> Finding:
    case.form.checked(case.student.tokenizer, case.student.key, case.own_template(case.student))
    ending = case.settings.prompt.ending
    if not ending:
        return ok("none is forced")
    ids = case.student.tokenizer.encode(ending, add_special_tokens=False)
    return ok(f"{ending} stands at the end of every prompt as token {', '.join(map(str, ids))}")


def prompt_by_token(case: Case) -> Finding:
    """The first training prompt, token by token. verl renders it once, and the teacher gets the same ids."""
    ids = case.prompts[0]
    pieces = [f"{token}:{piece!r}" for token, piece in zip(ids, map(case.student.tokenizer.decode, ids), strict=True)]
    whole = " ".join(pieces)
    if len(pieces) > 2 * SHOWN_AT_EACH_END:
        left_out = len(pieces) - 2 * SHOWN_AT_EACH_END
        pieces[SHOWN_AT_EACH_END:-SHOWN_AT_EACH_END] = [f"[{left_out} more]"]
    alike = "" if case.settings.teacher_prompt.is_own else " for student and teacher alike"
    return ok(f"{len(ids)} tokens{alike}: {' '.join(pieces)}", detail=whole)


def teachers_prompt(case: Case) -> Finding:
    """The teacher's own prompt for the first training row, as text."""
    if not case.settings.teacher_prompt.is_own:
        return ok("the student's")
    check_teacher_prompts(case.config, case.settings, case.student)
    first, longest = case.teacher_prompts[0], max(map(len, case.teacher_prompts))
    text = case.student.tokenizer.decode(first)
    return ok(f"its own, {longest} tokens at most; the first: {shorten(text, 200)!r}", detail=text)


def same_template(case: Case) -> Finding:
    """The teacher scores prompts in the student's template. A different template of its own is a mismatch."""
    messages = case.sampled_messages[:1]
    try:
        ours, theirs = (case.tokenize(model, messages)[0] for model in (case.student, case.teacher))
    except UserError as error:
        if error.what != case.teacher.what:
            raise
        return warn(f"the teacher's own chat template is not compared ({error.rule})", "the run uses the student's")
    for position, (mine, other) in enumerate(zip_longest(ours, theirs)):
        if mine != other:
            reason = f"the teacher's own chat template differs from the student's at token {position}: "
            remedy = "give the student the teacher's chat template (copy chat_template.jinja into its folder)"
            return warn(f"{reason}{_piece(case, other)} in place of {_piece(case, mine)}", remedy)
    return ok("both chat templates give the same prompt")


def _piece(case: Case, token: int | None) -> str:
    return "the end" if token is None else repr(case.student.tokenizer.decode([token]))


def thinking_mode(case: Case) -> Finding:
    """Templates such as Qwen3's close an empty thought if thinking is off; a forced ending would open another."""
    tokenizer, own, thinking = case.student.tokenizer, case.own_template(case.student), case.settings.prompt.thinking
    made = case.form.checked(tokenizer, case.student.key, own)  # refuses a mode that the template contradicts
    end = prompt_end(tokenizer, made, **template_variables(case.config))
    if opens_thinking(end):
        return ok(f"the prompt opens the thinking: an answer follows {THINK_END}")
    if not has_switch(tokenizer, own):
        return ok("the chat template has no thinking mode, and the prompt opens no thinking")
    if thinking == "forced" and THINK_END not in end:
        reason = "the template has a thinking mode, and no ending is forced: the student must open its thinking itself"
        return warn(reason, "leave prefix_opd.prompt.ending out, or choose prefix_opd.prompt.thinking=off")
    return ok(f"the template has a thinking mode, which is {'off' if THINK_END in end else 'on'}")
