"""Sample from a model and score sequences with offline vLLM, configured as in verl's rollout server.

    python -m prefix_opd.verl_plugin.server.doctor_engines FOLDER

FOLDER/requests.json is a list of requests (see `prefix_opd.checks.engines`). Each answer is written to
FOLDER/NAME.json. vLLM is imported once. Each engine runs in its own fork, whose exit frees the memory for the next.
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
    """Answer the requests in turn. Returns 0, or 1 at the first failure."""
    if RUN not in os.environ:
        our_run.begin()
    our_run.join()  # before vLLM looks for its platform
    import vllm  # noqa: F401  shared by all forks

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
    # run the engine in this fork: a process of its own would import everything again on a CPU
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    # as in verl's server: the model's tokenizer and generation config
    own = {"worker_extension_cls": extension, "skip_tokenizer_init": False, "generation_config": "auto"}
    with OfflineEngine(request["model"], **own, **request["engine"]) as engine:
        # as in vLLMHttpServer.run_server: mask the tokens beyond the tokenizer's vocabulary
        masked = {"vocab_size": request["tokens"], "banned_token_ids": None}
        engine.llm.collective_rpc("monkey_patch_model", kwargs=masked)
        pairs = engine.sample(request["prompts"], request["seeds"], **request["sampling"])
        sampled = [
            {"prompt": prompt, "tokens": tokens, "log_probs": log_probs}
            for prompt, (tokens, log_probs) in zip(request["prompts"], pairs, strict=True)
        ]
        sequences = sampled
        if request["sequences_of"] is not None:
            sequences = json.loads((folder / f"{request['sequences_of']}.json").read_text())["sampled"]
        prompts, responses = request["prompts"], [one["tokens"] for one in sequences]
        # [2][B][T] log-probs of the response tokens; the second pass reverses the order, so that batches differ
        scored = [engine.score(prompts, responses), engine.score(prompts[::-1], responses[::-1])[::-1]]
        return {"sampled": sampled, "scored": scored}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
