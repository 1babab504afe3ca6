"""How a rollout ended: by itself, cut at the prefix length L, or at a tool's output that exceeds its room."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

NATURAL, CUT, OTHER, TOOLS = "natural", "cut", "other", "tools"


def how_it_ended(response_ids: Sequence[int], longest: int, end_token_ids: Collection[int]) -> str:
    """Classify the end of a response by its last token.

    verl maps vLLM's finish reasons "length" and "stop" to the same word, so ``finish_reason`` cannot be used. A
    response of exactly ``longest`` tokens that ends with an end token ended by itself.

    Args:
        response_ids: token ids that the student sampled, at least one.
        longest: L in training, the maximum response length in validation, tokens.
        end_token_ids: every token that stops a rollout.

    Returns:
        "natural"; "cut" (``longest`` tokens without an end token); "other" (shorter without one: the engine aborted,
        or the context was full).
    """
    if not response_ids:
        raise ValueError("a rollout without tokens: the engine returned nothing")
    if response_ids[-1] in end_token_ids:
        return NATURAL
    return CUT if len(response_ids) >= longest else OTHER


def stop_token_ids(policy: str | Iterable[int], student: Collection[int], teacher: Collection[int]) -> list[int]:
    """The ids of the tokens that stop a rollout, sorted.

    Args:
        policy: "both" (default), "student", "teacher", or token ids. A base student and a chat teacher may end with
            different tokens. With "both" a student that learns the teacher's end token can stop with it.
        student, teacher: end tokens of each model, from its tokenizer and generation config.
    """
    named = {"both": [*student, *teacher], "student": student, "teacher": teacher}
    return sorted(set(named[policy] if isinstance(policy, str) else map(int, policy)))
