"""A teacher behind an OpenAI-compatible server: the requests, and what its answers must be.

vLLM's server scores a prompt of token ids with ``prompt_logprobs``: the answer has, for each token but the first, the
log-prob of that token and of the k likeliest. The answer names the tokens, so each score is proven to belong to the
token that was sent.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class RemoteTeacher:
    """The servers of one model."""

    urls: tuple[str, ...]
    """Bases of the API, ``http://HOST:PORT/v1``; any of them may answer a request."""
    model: str
    key_variable: str
    seconds: float

    @property
    def timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self.seconds, connect=min(CONNECT_SECONDS, self.seconds), pool=None)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def key(self) -> str:
        return os.environ.get(self.key_variable, "").strip()  # a file's last line ends with a line end

    def body(self, tokens: Sequence[int], topk: int) -> dict[str, Any]:
        """The request that scores a sequence. vLLM generates at least one token; it is ignored."""
        return {
            "model": self.model,
            "prompt": list(tokens),
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": topk,
            "return_tokens_as_token_ids": True,
        }


def address(url: str) -> str:
    """``host:port`` of a URL, for messages. A login in the URL is left out."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def entries_of(answer: Any) -> list[dict[str, dict[str, Any]] | None]:
    """None for the first token, else token id -> ``logprob``, ``rank``, ``decoded_token``; empty if it has none."""
    try:
        found = answer["choices"][0]["prompt_logprobs"]
    except (KeyError, IndexError, TypeError):
        found = None
    return found if isinstance(found, list) else []


def scores(answer: Any, tokens: Sequence[int], topk: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and log-probs of a sequence of S tokens. Row i belongs to token i + 1; the last row is padding (zeros).

    Args:
        tokens: (S,) the ids that were sent.
        topk: k, or 0 for the tokens of the sequence only.

    Returns:
        (S, max(k, 1)) ids, int32, and log-probs in nats, float32. With top-k, columns are sorted by rank.

    Raises:
        ValueError: the answer scores other tokens, fewer, or none.
    """
    entries = entries_of(answer)
    if len(entries) != len(tokens):
        raise ValueError(f"the teacher scored {len(entries)} tokens of {len(tokens)}")
    ids, log_probs = (np.zeros((len(tokens), max(topk, 1)), dtype) for dtype in (np.int32, np.float32))
    for row, (token, entry) in enumerate(zip(tokens[1:], entries[1:], strict=True)):
        if not entry or str(token) not in entry:
            raise ValueError(f"the teacher did not score token {token} at position {row + 1}: another sequence")
        if topk == 0:
            ids[row], log_probs[row] = token, entry[str(token)]["logprob"]
            continue
        ranked = sorted(entry.items(), key=lambda item: item[1]["rank"])[:topk]
        if [one["rank"] for _, one in ranked] != list(range(1, topk + 1)):
            raise ValueError(f"the teacher returned {len(entry)} log-probs at position {row + 1}, not its top {topk}")
        ids[row] = [int(name) for name, _ in ranked]
        log_probs[row] = [one["logprob"] for _, one in ranked]
    return ids, log_probs
