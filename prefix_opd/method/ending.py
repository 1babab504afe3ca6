"""How a rollout ended: by itself, or cut at the prefix length L."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

NATURAL, CUT, OTHER = "natural", "cut", "other"


def how_it_ended(response_ids: Sequence[int], longest: int, end_token_ids: Collection[int]) -> str:
    """Tell a natural end from a cut one.

    vLLM's ``finish_reason`` does not reach us (verl maps "length" and "stop" to the same word), so the last token
    decides. A response whose last allowed token is an end token ended by itself.

    Args:
        response_ids: the response's token ids, at least one.
        longest: L, or the longest response of a validation, tokens.
        end_token_ids: every token that stops a rollout.

    Returns:
        "natural"; "cut" (it reached ``longest`` without an end token); or "other" (shorter, without an end token: an
        engine that aborted, or a context that was full).
    """
    if not response_ids:
        raise ValueError("a rollout without tokens: the engine returned nothing")
    if response_ids[-1] in end_token_ids:
        return NATURAL
    return CUT if len(response_ids) >= longest else OTHER


def stop_token_ids(policy: str | Iterable[int], student: Collection[int], teacher: Collection[int]) -> list[int]:
    """The tokens that stop a rollout, in rising order.

    Args:
        policy: "both" (the default: a base student and a chat teacher end with different tokens, and a student that
            learns the teacher's must be able to stop with it), "student", "teacher", or token ids.
        student, teacher: the end tokens of each, from its tokenizer and generation config.
    """
    if policy == "both":
        return sorted({*student, *teacher})
    if policy == "student":
        return sorted(set(student))
    if policy == "teacher":
        return sorted(set(teacher))
    return sorted({int(token) for token in policy})
