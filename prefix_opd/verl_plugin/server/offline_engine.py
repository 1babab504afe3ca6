"""vLLM without verl: token ids in, token ids or log-probs out."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from typing import Any

from prefix_opd.verl_plugin import our_run


class OfflineEngine:
    """A context with a running engine. Leaving it frees the engine's memory, so that models can take turns."""

    def __init__(self, model: str, **engine: Any):
        """
        Args:
            model: folder or hub id.
            engine: further arguments of vLLM, e.g. from `prefix_opd.config.models.engine_arguments`.
        """
        self.arguments = dict(skip_tokenizer_init=True, disable_log_stats=True, generation_config="vllm", model=model)
        self.arguments |= engine

    def __enter__(self) -> OfflineEngine:
        our_run.install(["vllm_version"])  # vLLM reads the version of package "vllm"; its CPU package has another name
        # stdout holds the command's result, and vLLM's many lines would hide its progress bar on stderr
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        from vllm import LLM

        self.llm = LLM(**self.arguments)
        return self

    def __exit__(self, *error) -> None:
        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        gc.collect()

    def generate(
        self, prompts: Sequence[Sequence[int]], room: Sequence[int], seeds: Sequence[int], **sampling: Any
    ) -> list[list[int]]:
        """Continue B prompts.

        Args:
            prompts: (B,) token ids.
            room: (B,) maximum number of new tokens; 0 gives an empty continuation.
            seeds: (B,)
            sampling: arguments of vLLM's SamplingParams, the same for all prompts.

        Returns:
            (B,) new token ids, including the stop token.
        """
        asked = [i for i in range(len(prompts)) if room[i] > 0]
        each = [dict(sampling, max_tokens=room[i], seed=seeds[i]) for i in asked]
        answers = self._ask([prompts[i] for i in asked], each)
        found: list[list[int]] = [[] for _ in prompts]
        for i, answer in zip(asked, answers, strict=True):
            found[i] = list(answer.outputs[0].token_ids)
        return found

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], **sampling: Any
    ) -> list[tuple[list[int], list[float]]]:
        """Sample one response per prompt: (B,) pairs of T token ids and T log-probs of the sampler, nats.

        ``seeds``: (B,). Prompts with one seed would share their random numbers, position by position.
        """
        answers = self._ask(prompts, [dict(sampling, logprobs=0, seed=seed) for seed in seeds])
        outputs = [answer.outputs[0] for answer in answers]
        return [(list(one.token_ids), _of_tokens(one.logprobs, one.token_ids)) for one in outputs]

    def score(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> list[list[float]]:
        """(B,) log-probs of the T response tokens given the prompt, nats."""
        # the parameters of verl's teacher (verl/experimental/teacher_loop/teacher_manager.py)
        asked = dict(max_tokens=1, temperature=1.0, prompt_logprobs=0)
        ids = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
        answers = self._ask(ids, [asked] * len(ids))
        return [
            _of_tokens(answer.prompt_logprobs[-len(response) :], response)
            for answer, response in zip(answers, responses, strict=True)
        ]

    def _ask(self, prompts: Sequence[Sequence[int]], sampling: Sequence[dict[str, Any]]) -> list:
        from vllm import SamplingParams

        parameters = [SamplingParams(**one, detokenize=False) for one in sampling]
        return self.llm.generate([{"prompt_token_ids": list(one)} for one in prompts], parameters)


def _of_tokens(log_probs: Sequence[Any], tokens: Sequence[int]) -> list[float]:
    return [at[token].logprob for at, token in zip(log_probs, tokens, strict=True)]
