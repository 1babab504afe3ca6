"""A teacher on another machine takes the place of verl's teacher servers (`prefix_opd.config.remote_teacher`)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import httpx
from omegaconf import DictConfig
from verl.workers.rollout.replica import TokenOutput

from prefix_opd.base.errors import one_line
from prefix_opd.checks.remote_teacher import remote_teacher
from prefix_opd.config.remote_teacher import RemoteTeacher, address, scores
from prefix_opd.config.settings import Settings

TRIES = 4
"""Attempts of one request, each at the next URL."""
PAUSE_SECONDS = 0.5
"""Pause after the first failed attempt; it doubles with each."""
TRY_AGAIN = (408, 429, 500, 502, 503, 504)
"""HTTP status codes of an overloaded or restarting server."""
TEACHER = "default"
"""verl's name for the only teacher."""


class RemoteTeacherManager:
    """In place of verl's ``MultiTeacherModelManager``: starts nothing."""

    def __init__(self, config: DictConfig):
        self._client = RemoteTeacherClient(remote_teacher(config, Settings.from_node(config.prefix_opd)))

    def get_client(self) -> dict[str, RemoteTeacherClient]:
        return {TEACHER: self._client}


class RemoteTeacherClient:
    """In place of verl's ``LLMServerClient``, in each agent-loop worker."""

    def __init__(self, teacher: RemoteTeacher):
        self.teacher = teacher
        self._turn = itertools.count()
        self._http: httpx.AsyncClient | None = None  # of the worker's event loop
        self.answered: Callable[[], None] = lambda: None
        """Called at each answer."""

    def __reduce__(self):
        return type(self), (self.teacher,)

    async def generate(self, request_id: str, *, prompt_ids, sampling_params, **media: Any) -> TokenOutput:
        """The scores of a sequence, in verl's form.

        Raises:
            RuntimeError: no URL gave a valid answer; the rollout then has no score.
        """
        topk = sampling_params["prompt_logprobs"]
        answer = await self._post(self.teacher.body(prompt_ids, topk))
        try:
            ids, log_probs = scores(answer, prompt_ids, topk)
        except (ValueError, KeyError, TypeError) as error:
            raise RuntimeError(f"the remote teacher's answer cannot be used: {one_line(error)}") from None
        self.answered()
        return TokenOutput(token_ids=[], extra_fields={"prompt_ids": ids, "prompt_logprobs": log_probs})

    async def _post(self, body: dict[str, Any]) -> Any:
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=self.teacher.timeout, headers=self.teacher.headers)
        failure = RuntimeError("no attempt")
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
            url = self.teacher.urls[next(self._turn) % len(self.teacher.urls)]
            where = f"the remote teacher at {address(url)}"
            try:
                answer = await self._http.post(f"{url.rstrip('/')}/completions", json=body)
                answer.raise_for_status()
                return answer.json()
            except httpx.HTTPStatusError as error:
                code = error.response.status_code
                failure = RuntimeError(f"{where} answered {code}: {' '.join(error.response.text.split())[:200]}")
                if code not in TRY_AGAIN:
                    break
            except httpx.TimeoutException:
                failure = RuntimeError(f"{where} did not answer within {self.teacher.seconds:g} s")
                break  # the time limit of a rollout without progress is the same
            except (httpx.TransportError, ValueError) as error:
                failure = RuntimeError(f"{where}: {one_line(error)}")
        raise failure
