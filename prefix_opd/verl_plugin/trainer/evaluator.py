"""verl's validation in chunks. The responses of a chunk are stored before the next chunk starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from verl.trainer.ppo.utils import create_rl_dataset
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.utils.dataset.rl_dataset import collate_fn

from prefix_opd.base.errors import RunStopped
from prefix_opd.base.files import write_json
from prefix_opd.evaluation.benchmarks import Benchmark
from prefix_opd.evaluation.config import NODE, TRAINER
from prefix_opd.evaluation.record import PROGRESS_FILE, Chunk, chunks, done, write_part
from prefix_opd.method.seeds import answer_seed
from prefix_opd.verl_plugin.trainer.engine_watch import while_waiting
from prefix_opd.verl_plugin.trainer.trainer import PrefixOPDTrainer
from prefix_opd.verl_plugin.worker.agent_loop import PrefixAgentLoopManager, PrefixAgentLoopWorker

PROBLEM = "evaluation_problem"
PROGRESS_SECONDS = 1.0


@register_trainer(TRAINER)
class Evaluator(PrefixOPDTrainer):
    """Selected by ``trainer.v1.trainer_mode=prefix_opd_evaluate`` with ``trainer.val_only``.

    verl's ``_validate`` runs once per chunk. It reads problems from ``val_dataloader``, which holds one chunk here, and
    passes the responses to ``_dump_generations``, which stores them here.
    """

    def __init__(self, config):
        super().__init__(config)
        self.plan = config[NODE]
        self.dumped: dict[str, list] = {}
        self.finished = 0
        while_waiting(self.replay_buffer, PROGRESS_SECONDS, self._show_chunk)

    def on_validate_begin(self):
        pass  # an evaluation has no steps, hence no run log

    def _validate(self) -> dict[str, float]:
        todo = {}
        for node in self.plan.benchmarks:
            path, samples = node.path, int(node.samples)
            dataset = create_rl_dataset(path, self.config.data, self.tokenizer, self.processor, is_train=False)
            problems = min(len(dataset), node.limit or len(dataset))
            kept = done(self.run_folder, node.name, samples)
            self.finished += len(kept)
            ids = [row["id"] for row in Benchmark(node.name, Path(path), samples, node.limit).rows]
            todo[node.name] = (dataset, ids, chunks(problems, kept, node.name, samples, int(self.plan.chunk)))
        metrics: dict[str, float] = {}
        for name, (dataset, ids, left) in todo.items():
            for chunk in left:
                self._show(name)
                metrics.update(self._validate_chunk(dataset, ids, chunk))
                self.finished += len(chunk.problems)
                self._show(name)
        return metrics

    def _validate_chunk(self, dataset, ids: list[str], chunk: Chunk) -> dict[str, float]:
        batch = collate_fn([dataset[problem] for problem in chunk.problems])
        batch["__rollout_n__"] = np.array([chunk.samples] * len(chunk.problems), dtype=object)
        batch[PROBLEM] = np.array([f"{chunk.benchmark}/{problem}" for problem in chunk.problems], dtype=object)
        self.val_dataloader = [batch]
        self.chunk = chunk
        metrics = super()._validate()
        if (came := len(self.dumped["uid"])) < (asked := len(chunk.problems) * chunk.samples):
            # a stored part with missing responses would count as complete
            raise RunStopped(f"{chunk.benchmark}: {came} of {asked} responses came back; ask again to go on from here")
        # verl gave the prompts of the chunk random uids
        problems = dict(zip(batch["uid"].tolist(), chunk.problems, strict=True))
        write_part(self.run_folder, chunk, self._rows(problems, ids))
        return metrics

    def _dump_generations(self, inputs, outputs, gts, scores, reward_extra_infos_dict, dump_path):
        self.dumped = {"prompt": inputs, "response": outputs, "score": scores, **reward_extra_infos_dict}

    def _rows(self, problems: dict[str, int], ids: list[str]) -> list[dict[str, Any]]:
        dumped, rows = self.dumped, []
        nothing = [None] * len(dumped["uid"])
        for i, key in enumerate(dumped["uid"]):
            uid, sample, _ = key.rsplit("_", 2)
            length = int(dumped["response_length"][i])
            natural = bool(dumped["natural_end"][i])
            rows.append(
                {
                    "benchmark": self.chunk.benchmark,
                    "problem": problems[uid],
                    "problem_id": ids[problems[uid]],
                    "sample": int(sample),
                    "prompt": dumped["prompt"][i],
                    "response": dumped["response"][i],
                    "score": float(dumped["score"][i]),
                    "pred": str(dumped.get("pred", nothing)[i] or ""),
                    "graded_by": str(dumped.get("graded_by", nothing)[i] or ""),
                    "reason": str(dumped.get("reason", nothing)[i] or "") or None,
                    "response_length": length,
                    "natural_end": natural,
                    "cut": not natural and length >= self.config.data.max_response_length,
                }
            )
        return rows

    def _show_chunk(self, partition_id: str) -> None:
        self._show(self.chunk.benchmark, len(self.replay_buffer.finished_keys[partition_id]))

    def _show(self, benchmark: str, more: int = 0) -> None:
        """Write the number of finished problems, with ``more`` of the current chunk, for the progress bar."""
        write_json(self.run_folder / PROGRESS_FILE, {"benchmark": benchmark, "done": self.finished + more})


class EvaluationWorker(PrefixAgentLoopWorker):
    """Seeds each response by problem and sample number, so that chunks and stops do not change the responses."""

    async def _run_agent_loop(self, sampling_params: dict[str, Any], trajectory: dict[str, Any], **kwargs):
        seed = answer_seed(self.config[NODE].seed, kwargs[PROBLEM], kwargs["session_id"])
        return await super()._run_agent_loop(dict(sampling_params, seed=seed), trajectory, **kwargs)


class EvaluationManager(PrefixAgentLoopManager):
    """The class in ``actor_rollout_ref.rollout.agent.agent_loop_manager_class``."""

    worker = EvaluationWorker
