"""Read a teacher's log-probs as arrays, without one object per log-prob.

The request asks vLLM for flat lists, and arrays are sent. The ids and log-probs are the same. The server's one event
loop, which handles all sequences, needs 1/2 of the time for 130 tokens, with top-k 1/3 (k = 8) or 1/5 (k = 32). The
answer keeps the prompt positions: verl counts them, and `agent_loop.check_scored_tokens` reads them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefix_opd.base.patching import around


def flat_to_arrays(flat: Any, topk: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and log-probs of a sequence of S tokens. Row i belongs to token i + 1; the last row is padding (zeros).

    Args:
        flat: vLLM's ``FlatLogprobs``: no entry for the first token; for every other token itself and the k likeliest.
        topk: k, or 0 for the tokens of the sequence only.

    Returns:
        (S, max(k, 1)) ids, int32, and log-probs in nats, float32. With top-k, columns are sorted by rank.

    Raises:
        RuntimeError: the lists have an unexpected shape, so rows could belong to other tokens.
    """
    rows, width = len(flat) - 1, topk + 1
    starts = [0, *range(0, rows * width, width)]
    likeliest_and_last = [flat.ranks[rank::width].count(rank) for rank in {1, topk} if topk]
    if (
        flat.start_indices != starts
        or {len(flat.token_ids), len(flat.logprobs), len(flat.ranks)} != {rows * width}
        or any(found != rows for found in likeliest_and_last)
    ):
        raise RuntimeError(
            f"vLLM's flat log-probs have another shape than {rows} rows of a token and its {topk} likeliest "
            f"({len(flat.token_ids)} ids, {len(flat.logprobs)} log-probs): {__name__} "
            "must be adapted to this version"
        )
    ids, log_probs = (np.zeros((rows + 1, max(topk, 1)), dtype) for dtype in (np.int32, np.float32))
    listed = slice(1, None) if topk else slice(None)
    ids[:-1] = np.array(flat.token_ids, np.int32).reshape(rows, width)[:, listed]
    log_probs[:-1] = np.array(flat.logprobs, np.float32).reshape(rows, width)[:, listed]
    return ids, log_probs


@around
def asked_for_flat_lists(verls_own, teacher_model_config, distillation_loss_config) -> dict[str, Any]:
    """``_get_teacher_sampling_params`` that asks vLLM for flat lists."""
    asked = verls_own(teacher_model_config, distillation_loss_config)
    if teacher_model_config.inference.name == "vllm":  # other engines lack this parameter
        asked["flat_logprobs"] = True
    return asked


@around
def read_as_arrays(verls_own, output, num_prompt_logprobs, result_dict) -> None:
    """``extract_prompt_logprobs`` that reads flat lists as arrays. verl reads all other answers."""
    from vllm.logprobs import FlatLogprobs

    if not isinstance(output.prompt_logprobs, FlatLogprobs):
        verls_own(output, num_prompt_logprobs, result_dict)
        return
    ids, log_probs = flat_to_arrays(output.prompt_logprobs, num_prompt_logprobs)
    result_dict.update(prompt_ids=ids, prompt_logprobs=log_probs)
