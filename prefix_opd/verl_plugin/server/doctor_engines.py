"""vLLM as verl's rollout server sets it up, but offline: sample from a model, and score sequences with it.

    python -m prefix_opd.verl_plugin.server.doctor_engines FOLDER

FOLDER/requests.json is a list of requests (see `prefix_opd.checks.engines`); each answer goes to FOLDER/NAME.json.
vLLM is imported once, and each engine lives and dies in a fork of its own, so that its memory is free for the next.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefix_opd import RUN
from prefix_opd.verl_plugin import our_run

if TYPE_CHECKING:
    from vllm import LLM


def main(folder: Path) -> int:
    """Answer every request in turn; the exit code of the first that fails, 0 if none does."""
    if RUN not in os.environ:
        our_run.begin()
    our_run.join()  # before vLLM looks for its platform
    import vllm  # noqa: F401  once, for all forks

    for request in json.loads((folder / "requests.json").read_text()):
        pid = os.fork()
        if pid == 0:
            answer = _answer(request, folder)
            (folder / f"{request['name']}.json").write_text(json.dumps(answer))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            return 1
    return 0


def _answer(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    extension = "verl.workers.rollout.vllm_rollout.utils.vLLMColocateWorkerExtension"
    # the fork is the engine's process: vLLM would start one more, which imports everything anew on a CPU
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM

    engine = LLM(request["model"], worker_extension_cls=extension, **request["engine"])
    # as vLLMHttpServer.run_server does, with the same words: no token beyond the tokenizer is ever sampled
    masked = {"vocab_size": request["tokens"], "banned_token_ids": None}
    engine.collective_rpc("monkey_patch_model", kwargs=masked)
    sampled = _sample(engine, request)
    sequences = sampled
    if request["sequences_of"] is not None:
        sequences = json.loads((folder / f"{request['sequences_of']}.json").read_text())["sampled"]
    return {"sampled": sampled, "scored": _score_twice(engine, sequences)}


def _sample(engine: LLM, request: dict[str, Any]) -> list[dict[str, Any]]:
    """One response to each prompt, with the sampler's log-prob of each token."""
    from vllm import SamplingParams

    parameters = SamplingParams(**request["sampling"], logprobs=0, detokenize=False)
    outputs = engine.generate(_as_tokens(request["prompts"]), parameters, use_tqdm=False)
    found = []
    for prompt, output in zip(request["prompts"], outputs, strict=True):
        tokens = list(output.outputs[0].token_ids)
        pairs = zip(output.outputs[0].logprobs, tokens, strict=True)
        found.append({"prompt": prompt, "tokens": tokens, "log_probs": [at[token].logprob for at, token in pairs]})
    return found


def _score_twice(engine: LLM, sequences: list[dict[str, Any]]) -> list[list[list[float]]]:
    """[2][B][T] log-probs of the response tokens, the second time in the reverse order: in other batches."""
    rounds = []
    for order in (range(len(sequences)), range(len(sequences) - 1, -1, -1)):
        scored = dict(zip(order, _score(engine, [sequences[i] for i in order]), strict=True))
        rounds.append([scored[i] for i in range(len(sequences))])
    return rounds


def _score(engine: LLM, sequences: list[dict[str, Any]]) -> list[list[float]]:
    from vllm import SamplingParams

    # as verl asks its teacher (verl/experimental/teacher_loop/teacher_manager.py)
    parameters = SamplingParams(max_tokens=1, temperature=1.0, prompt_logprobs=0, detokenize=False)
    ids = [[*sequence["prompt"], *sequence["tokens"]] for sequence in sequences]
    outputs = engine.generate(_as_tokens(ids), parameters, use_tqdm=False)
    return [
        [at[token].logprob for at, token in zip(output.prompt_logprobs[-len(tokens) :], tokens, strict=True)]
        for output, tokens in zip(outputs, (sequence["tokens"] for sequence in sequences), strict=True)
    ]


def _as_tokens(prompts: list[list[int]]) -> list[dict[str, list[int]]]:
    return [{"prompt_token_ids": prompt} for prompt in prompts]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
