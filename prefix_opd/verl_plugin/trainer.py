"""verl's synchronous V1 trainer with the advantage, the metrics and the ledger of prefix distillation."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import open_dict
from tensordict import TensorDict
from transformers import AutoConfig
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from prefix_opd.advantage import reverse_kl_advantage
from prefix_opd.flops import ModelShape, StepFlops, exact_flops, paper_flops
from prefix_opd.metrics import by_position, reverse_kl_metrics, rollout_metrics
from prefix_opd.runlog import RunLog
from prefix_opd.settings import Settings
from prefix_opd.verl_plugin.fields import TRAIN_FIELDS, TrainBatch, plain, read_train_batch
from prefix_opd.verl_plugin.startup import EngineStartup

logger = logging.getLogger(__name__)

LEDGER_FILE = "prefix_opd.json"


@register_trainer("prefix_opd")
class PrefixOPDTrainer(PPOTrainerSync):
    """Chosen by ``trainer.v1.trainer_mode=prefix_opd``.

    verl compares the mode with the literal "sync" in its replay buffer, its refill and its checkpoints; any other
    word would silently select their asynchronous form. So the mode reads "sync" from here on.
    """

    def __init__(self, config):
        with open_dict(config):
            config.trainer.v1.trainer_mode = "sync"
        self.settings = Settings.from_node(plain(config.prefix_opd))
        self.flops = {"exact": 0.0, "paper": 0.0}
        self.tokens = {"generated": 0, "scored": 0, "trained": 0}
        super().__init__(config)
        self.replay_buffer.poll_interval = self.settings.poll_seconds
        self.student_shape = _shape(config.actor_rollout_ref.model.path)
        self.teacher_shape = _shape(config.distillation.teacher_models.teacher_model.model_path)
        self.startup = EngineStartup(self)

    @property
    def run_folder(self) -> Path:
        return Path(self.config.trainer.default_local_dir)

    # ---- start-up ----

    def _init_resource_pool_mgr(self):
        super()._init_resource_pool_mgr()
        self.startup.begin()

    def _setup(self):
        with self.startup:
            super()._setup()

    # ---- one update ----

    def _balance_batch(self, batch, metrics, *args, **kwargs):
        """Before anything is learnt: every rollout that the step claims must be there.

        verl trains on what is left when rollouts or teacher answers fail; a step so trained would count for more
        than it learnt.
        """
        expected = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n
        if len(batch.keys) != expected:
            raise RuntimeError(
                f"step {self.global_steps}: {len(batch.keys)} of {expected} rollouts came back scored; the log above "
                "has the error of the others. Nothing was learnt from this step: start the same command again to go "
                "on from the last checkpoint"
            )
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    def _compute_old_log_prob(self, batch, metrics):
        """The sampler's log-probs serve as old ones: no second student pass, unless it is asked for."""
        if self.settings.advantage.student_log_prob == "recomputed":
            return super()._compute_old_log_prob(batch, metrics)
        return batch

    def _compute_advantage(self, batch, metrics):
        recomputed = self.settings.advantage.student_log_prob == "recomputed"
        fields = [*TRAIN_FIELDS, "old_log_probs"] if recomputed else TRAIN_FIELDS
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        topk = self.distillation_config.distillation_loss.loss_settings.use_topk
        rollouts = read_train_batch(data, recomputed, topk)
        if topk:  # verl's loss over the teacher's top-k has no advantage, but its metrics ask for one
            advantage = torch.zeros_like(rollouts.log_p)
        else:
            advantage = reverse_kl_advantage(rollouts.log_p, rollouts.log_q, self.settings.advantage.clamp)
        nested = rollouts.nested(advantage)
        metrics.update(self._rollout_metrics(rollouts, recomputed))
        # gamma = 0: the return of a token is its own reward
        fields = TensorDict({"advantages": nested, "returns": nested}, batch_size=len(batch))
        return tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)

    def _rollout_metrics(self, rollouts: TrainBatch, recomputed: bool) -> dict[str, Any]:
        found = rollout_metrics(rollouts.records, rollouts.lengths)
        if rollouts.log_q is not None:
            found.update(self._reverse_kl_metrics(rollouts))
        found.update(self._account(rollouts, recomputed))
        return {f"prefix_opd/{name}": value for name, value in found.items()}

    def _reverse_kl_metrics(self, rollouts: TrainBatch) -> dict[str, float]:
        found = reverse_kl_metrics(rollouts.log_p, rollouts.log_q, rollouts.mask)
        width = -(-int(self.config.data.max_response_length) // self.settings.position_bins)
        kl = (rollouts.log_p - rollouts.log_q)[rollouts.mask]
        positions = rollouts.positions()[rollouts.mask]
        for first, mean, _ in by_position(kl.abs(), positions, width):
            found[f"reverse_kl_abs_by_position/{first}"] = mean
        return found

    def _account(self, rollouts: TrainBatch, recomputed: bool) -> dict[str, float]:
        """Tokens and FLOP of this update, and of the run so far (the ledger that checkpoints keep)."""
        shapes = (self.student_shape, self.teacher_shape)
        exact = exact_flops(*shapes, rollouts.prompt_lengths, rollouts.lengths, recomputed)
        paper = paper_flops(*shapes, rollouts.lengths)
        tokens = {
            "generated": sum(rollouts.lengths),
            "scored": sum(rollouts.prompt_lengths) + sum(rollouts.lengths),
            "trained": int(rollouts.mask.sum()),
        }
        self.flops["exact"] += exact.total
        self.flops["paper"] += paper.total
        for kind, count in tokens.items():
            self.tokens[kind] += count
        return {
            **_flop_metrics("exact", exact, self.flops["exact"]),
            **_flop_metrics("paper", paper, self.flops["paper"]),
            **{f"tokens/{kind}": count for kind, count in tokens.items()},
            **{f"tokens_so_far/{kind}": count for kind, count in self.tokens.items()},
        }

    def _update_actor(self, batch, metrics):
        batch = super()._update_actor(batch, metrics)
        for name in [name for name in metrics if name.startswith("actor/prefix_opd/")]:
            metrics[name.removeprefix("actor/")] = metrics.pop(name)
        return batch

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        metrics["prefix_opd/seconds/update"] = timing_raw.get("update_actor", 0.0)  # none while a critic warms up
        metrics["prefix_opd/seconds/weight_sync"] = timing_raw["update_weights"]
        metrics["prefix_opd/seconds/step"] = timing_raw["step"]
        metrics["prefix_opd/seconds/since_start"] = time.time() - self.startup.started

    # ---- the run's record ----

    def on_validate_begin(self):
        self._open_run_log()
        super().on_validate_begin()

    def on_train_begin(self):
        self._open_run_log()
        super().on_train_begin()

    def _open_run_log(self) -> None:
        # verl makes its trackers inside fit(); ours joins them before the first of them is written to.
        if "prefix_opd" not in self.logger.logger:
            self.logger.logger["prefix_opd"] = RunLog(self.run_folder, resumed_step=self.resumed_step)

    def _save_checkpoint(self):
        # Before verl names this step in latest_checkpointed_iteration.txt: a checkpoint without ledger never counts.
        folder = self.run_folder / f"global_step_{self.global_steps}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LEDGER_FILE).write_text(json.dumps({"flops": self.flops, "tokens": self.tokens}))
        super()._save_checkpoint()

    def _load_checkpoint(self):
        super()._load_checkpoint()
        self.resumed_step = self.global_steps
        if not self.resumed_step:
            return
        folder = self.run_folder / f"global_step_{self.resumed_step}"
        if self.config.trainer.resume_mode == "resume_path":
            folder = Path(self.config.trainer.resume_from_path)
        if (folder / LEDGER_FILE).exists():
            ledger = json.loads((folder / LEDGER_FILE).read_text())
            self.flops, self.tokens = ledger["flops"], ledger["tokens"]
        else:  # a checkpoint of verl's own trainer
            logger.warning("%s has no %s: FLOP and tokens are counted from here on", folder, LEDGER_FILE)
        with open_dict(self.config):
            # this step was validated when it was reached
            self.config.trainer.val_before_train = False


def _flop_metrics(kind: str, step: StepFlops, so_far: float) -> dict[str, float]:
    return {
        **{f"flops_{kind}/{phase}": value for phase, value in step.as_dict().items()},
        f"flops_{kind}/so_far": so_far,
    }


def _shape(model: str) -> ModelShape:
    return ModelShape.from_config(AutoConfig.from_pretrained(model).to_dict())
