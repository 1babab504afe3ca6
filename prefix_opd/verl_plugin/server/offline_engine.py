"""A vLLM engine without verl around it, for analyses that only generate: token ids in, token ids out."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

from prefix_opd.verl_plugin import our_run

ENGINE_KEYS = (
    "dtype",
    "tensor_parallel_size",
    "gpu_memory_utilization",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "enforce_eager",
    "enable_chunked_prefill",
    "kv_cache_memory_bytes",
    "distributed_executor_backend",
)


class OfflineEngine:
    """A context: the engine is there inside, and its memory is free after it, so that models can take turns."""

    def __init__(self, model: str, trust_remote_code: bool = False, **engine: Any):
        """
        Args:
            model: folder or hub id.
            engine: of `ENGINE_KEYS`, vLLM's own names.
        """
        unknown = set(engine) - set(ENGINE_KEYS)
        if unknown:
            raise TypeError(f"unknown engine arguments: {sorted(unknown)}")
        self.arguments = dict(engine, model=model, trust_remote_code=trust_remote_code)

    def __enter__(self) -> OfflineEngine:
        our_run.install(["vllm_version"])  # vLLM asks for the version of "vllm", which its CPU package does not have
        from vllm import LLM

        self.llm = LLM(**self.arguments, skip_tokenizer_init=True, disable_log_stats=True, generation_config="vllm")
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
            room: (B,) tokens at most; 0 gives an empty continuation.
            seeds: (B,)
            sampling: vLLM's SamplingParams, alike for all.

        Returns:
            (B,) the new token ids, a stop token included.
        """
        from vllm import SamplingParams

        asked = [i for i in range(len(prompts)) if room[i] > 0]
        parameters = [SamplingParams(max_tokens=room[i], seed=seeds[i], detokenize=False, **sampling) for i in asked]
        answers = self.llm.generate([{"prompt_token_ids": list(prompts[i])} for i in asked], parameters, use_tqdm=True)
        found: list[list[int]] = [[] for _ in prompts]
        for i, answer in zip(asked, answers, strict=True):
            found[i] = list(answer.outputs[0].token_ids)
        return found
