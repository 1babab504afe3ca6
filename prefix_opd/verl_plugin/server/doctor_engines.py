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
from typing import Any

from prefix_opd import RUN
from prefix_opd.base.files import write_json
from prefix_opd.verl_plugin import our_run
from prefix_opd.verl_plugin.server.offline_engine import OfflineEngine


def main(folder: Path) -> int:
    """Answer every request in turn; the exit code of the first that fails, 0 if none does."""
    if RUN not in os.environ:
        our_run.begin()
    our_run.join()  # before vLLM looks for its platform
    import vllm  # noqa: F401  once, for all forks

    for request in json.loads((folder / "requests.json").read_text()):
        pid = os.fork()
        if pid == 0:
            write_json(folder / f"{request['name']}.json", _answer(request, folder))
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
    # as verl's server has it: with the model's tokenizer and generation config
    own = {"worker_extension_cls": extension, "skip_tokenizer_init": False, "generation_config": "auto"}
    with OfflineEngine(request["model"], **own, **request["engine"]) as engine:
        # as vLLMHttpServer.run_server does, with the same words: no token beyond the tokenizer is ever sampled
        masked = {"vocab_size": request["tokens"], "banned_token_ids": None}
        engine.llm.collective_rpc("monkey_patch_model", kwargs=masked)
        pairs = engine.sample(request["prompts"], **request["sampling"])
        sampled = [
            {"prompt": prompt, "tokens": tokens, "log_probs": log_probs}
            for prompt, (tokens, log_probs) in zip(request["prompts"], pairs, strict=True)
        ]
        sequences = sampled
        if request["sequences_of"] is not None:
            sequences = json.loads((folder / f"{request['sequences_of']}.json").read_text())["sampled"]
        return {"sampled": sampled, "scored": _score_twice(engine, sequences)}


def _score_twice(engine: OfflineEngine, sequences: list[dict[str, Any]]) -> list[list[list[float]]]:
    """[2][B][T] log-probs of the response tokens, the second time in the reverse order: in other batches."""
    prompts, responses = ([one[name] for one in sequences] for name in ("prompt", "tokens"))
    return [engine.score(prompts, responses), engine.score(prompts[::-1], responses[::-1])[::-1]]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
