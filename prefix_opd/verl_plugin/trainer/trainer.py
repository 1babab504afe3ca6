"""verl's synchronous V1 trainer with the prefix lengths, the advantage and the metrics of prefix distillation."""

from __future__ import annotations

import functools
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import ray
import transfer_queue as tq
from omegaconf import open_dict
from tensordict import TensorDict
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer

from prefix_opd.base.errors import RunStopped, one_line
from prefix_opd.base.files import write_whole
from prefix_opd.config.settings import Settings
from prefix_opd.grading.verdict import common_refusal
from prefix_opd.run import checkpoints
from prefix_opd.run.checkpoints import LEDGER_FILE
from prefix_opd.run.events import EventLog
from prefix_opd.run.ledger import accuracies
from prefix_opd.run.log import RunLog, numbers, read_metrics
from prefix_opd.verl_plugin.fields import SETTINGS, TRAIN_FIELDS, for_update, read_train_batch
from prefix_opd.verl_plugin.trainer.copies import mark_copies
from prefix_opd.verl_plugin.trainer.early_dispatch import EarlyDispatch, end_if_due, reason_to_end
from prefix_opd.verl_plugin.trainer.ledger import Ledger
from prefix_opd.verl_plugin.trainer.lengths import Lengths
from prefix_opd.verl_plugin.trainer.probe import Probe
from prefix_opd.verl_plugin.trainer.samples import SampleRecorder
from prefix_opd.verl_plugin.trainer.startup import EngineStartup
from prefix_opd.verl_plugin.trainer.step_guard import StepGuard
from prefix_opd.verl_plugin.trainer.turns import TakesTurns, Turns

logger = logging.getLogger(__name__)


@register_trainer("prefix_opd")
class PrefixOPDTrainer(TakesTurns, PPOTrainerSync):
    """Selected by ``trainer.v1.trainer_mode=prefix_opd``.

    verl compares the mode with the literal "sync" in its replay buffer, its refill and its checkpoints. Any other mode
    silently selects their asynchronous form. So the constructor sets the mode to "sync".
    """

    def __init__(self, config):
        with open_dict(config):
            config.trainer.v1.trainer_mode = "sync"
        self.settings = Settings.from_node(config.prefix_opd)
        super().__init__(config)
        self.replay_buffer.poll_interval = self.settings.poll_seconds
        self.ledger = Ledger.of(config, self.settings)
        self.data = checkpoints.data_fingerprint(config)
        self.events = EventLog(self.run_folder)
        self.startup = EngineStartup(self)
        self.turns = Turns(self)
        self.guard = StepGuard(self, self.settings.watchers)
        self.recovered: dict[str, Any] = {}
        self.saved_step = 0
        self.samples = SampleRecorder(self)
        self.probe = Probe(self)
        self.lengths = Lengths(self)
        self.early = EarlyDispatch(self)

    @property
    def run_folder(self) -> Path:
        return Path(self.config.trainer.default_local_dir)

    # ---- start-up ----

    def _init_dataloader(self):
        super()._init_dataloader()
        if self.settings.rollout.seeded is not None:
            for dataset in (self.train_dataset, self.val_dataset):
                mark_copies(dataset)

    def _init_resource_pool_mgr(self):
        super()._init_resource_pool_mgr()
        self.startup.begin()

    def _setup(self):
        with self.startup:
            super()._setup()

    def fit(self, agent_loop_manager):
        self.events.milestone("engines are ready, sending weights and validating", self.resumed_step)
        self.checkpoint_manager.limit_seconds = self.settings.rollout.timeout_seconds
        super().fit(agent_loop_manager)

    # ---- one update ----

    def step(self, metrics, timing_raw):
        self.step_metrics, self.step_began = metrics, time.time()
        batch = super().step(metrics, timing_raw)
        # before the checkpoint, which stores the schedule's state, and before the next prompts are handed out
        metrics.update(self.lengths.observe({**metrics, **self.probe.metrics()}))
        return batch

    def on_step_begin(self):
        super().on_step_begin()
        self.guard.warned = 0
        if self.probe.is_due(self.global_steps):
            self.probe.run(self.global_steps)

    def prepare_step(self):
        return {} if self.early.is_done(self.global_steps) else super().prepare_step()

    def _submit_batch_to_rollout(self, batch):
        self.lengths.write_on(batch)
        self.guard.remember(batch)
        return super()._submit_batch_to_rollout(batch)

    def _step_once(self, metrics, timing_raw, sample_batch_size):
        return self.guard.run(
            functools.partial(super()._step_once, metrics, timing_raw, sample_batch_size), metrics=metrics
        )

    def _balance_batch(self, batch, metrics, *args, **kwargs):
        self.guard.check_all_came(batch, metrics)
        self.guard.put_in_order(batch)
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    def _compute_old_log_prob(self, batch, metrics):
        """Use the sampler's log-probs as old log-probs, unless the settings ask for a second student pass."""
        if self.settings.advantage.recomputes:
            batch.extra_info[SETTINGS] = self.settings
            return super()._compute_old_log_prob(batch, metrics)
        return batch

    def _compute_advantage(self, batch, metrics):
        fields = [*TRAIN_FIELDS, "old_log_probs"] if self.settings.advantage.recomputes else TRAIN_FIELDS
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        rollouts = read_train_batch(data, self.settings.advantage.recomputes, self.settings.loss.needs_topk)
        advantage = rollouts.advantage(self.settings.loss, self.settings.advantage.clamp)
        self.guard.check_rollouts(rollouts, advantage, batch.keys, metrics)
        # after the checks: discarded batches leave no samples
        if rollouts.log_q is not None and self.samples.is_due(self.global_steps):
            self.samples.record(self.global_steps, "train", rollouts, data, rollouts.prefix_lengths)
        nested = rollouts.nested(advantage)
        metrics.update({**self.ledger.add(rollouts), **rollouts.reported(self.settings.loss)})
        # gamma = 0: a token's return is its own reward
        fields = TensorDict({"advantages": nested, "returns": nested}, batch_size=len(batch))
        stored = tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)
        scores = self.settings.loss.needs_teacher_at_update(self.settings.advantage.student_log_prob)
        return for_update(stored, scores, images=self.processor is not None)

    def _update_actor(self, batch, metrics):
        self.early.before_update(self.global_steps)
        batch.extra_info[SETTINGS] = self.lengths.settings_of_update()
        batch = super()._update_actor(batch, metrics)
        for name in [name for name in metrics if name.startswith("actor/prefix_opd/")]:
            metrics[name.removeprefix("actor/")] = metrics.pop(name)
        self.guard.check_update(metrics)
        return batch

    def on_step_end(self):
        end_if_due(self)
        with marked_timer("gen", self.timing_raw):
            self.early.wait()
        super().on_step_end()
        self.early.after(self.global_steps)

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        metrics["prefix_opd/seconds/update"] = timing_raw.get("update_actor", 0.0)  # missing while a critic warms up
        metrics["prefix_opd/seconds/weight_sync"] = timing_raw["update_weights"]
        metrics["prefix_opd/seconds/turns"] = self.turns.take_seconds()
        metrics["prefix_opd/seconds/step"] = timing_raw["step"] - self.probe.seconds
        metrics["prefix_opd/seconds/since_start"] = time.time() - self.startup.started
        metrics.update(self.probe.take())

    # ---- validation ----

    def _validate(self):
        try:
            found = super()._validate()
            self.lengths.validation(found)
            return found
        except (RunStopped, ray.exceptions.RayActorError):
            raise
        except Exception as error:
            if not (failures := self.guard.take_failures()):
                raise
            told = f"step {self.global_steps}: the validation failed ({failures[0]}); the log above has the others"
            raise RunStopped(told) from error  # verl's own error does not say that no response came back

    def _val_metrics_update(
        self, data_sources, sample_uids, reward_extra_infos_dict, sample_turns, expected_acc_counts=None
    ):
        metrics = super()._val_metrics_update(
            data_sources, sample_uids, reward_extra_infos_dict, sample_turns, expected_acc_counts
        )
        expected = sum((expected_acc_counts or {}).values())
        if refusal := common_refusal(reward_extra_infos_dict.get("reason", [])):
            self.guard.warn(refusal)
        self.guard.check_validation(len(sample_uids), expected, reward_extra_infos_dict.get("natural_end", []), metrics)
        return metrics

    def _maybe_log_val_generations(self, inputs, outputs, scores):
        try:
            super()._maybe_log_val_generations(inputs, outputs, scores)
        except Exception as error:  # an unreachable tracker must not end the run, see `trackers`
            self.events.warn(self.global_steps, f"no tracker took the validation answers ({one_line(error)})")

    # ---- the run's record ----

    def on_validate_begin(self):
        self._open_run_log()
        super().on_validate_begin()

    def on_train_begin(self):
        checkpoints.set_aside(self.run_folder, self.resumed_step)
        self._open_run_log()
        super().on_train_begin()

    def _open_run_log(self) -> None:
        # verl creates its trackers inside fit(); the run log joins them before the first write
        if "prefix_opd" not in self.logger.logger:
            due = self.resumed_step > 0 and self.config.trainer.val_before_train
            ours = RunLog(self.run_folder, self.resumed_step, self.recovered, due)
            self.logger.logger = {"prefix_opd": ours, **self.logger.logger}
        self.samples.open(self.resumed_step)

    def _save_checkpoint(self):
        folder = self.run_folder / f"global_step_{self.global_steps}"
        try:
            checkpoints.clear(folder)
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / LEDGER_FILE, json.dumps(self._ledger()))
            super()._save_checkpoint()
            checkpoints.write_manifest(folder)
        except ray.exceptions.RayActorError:
            raise
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)  # an incomplete checkpoint is useless, and the disk may be full
            raise RunStopped(
                f"step {self.global_steps}: its checkpoint could not be written to {folder} ({one_line(error)}); "
                "free space, or set trainer.default_local_dir"
            ) from error
        self.saved_step = self.global_steps
        try:
            checkpoints.prune(self.run_folder, self.settings.checkpoint, self.global_steps)
        except Exception as error:  # harmless: the new checkpoint is complete
            self.events.warn(self.global_steps, f"old checkpoints could not be removed ({one_line(error)})")

    def _ledger(self) -> dict[str, Any]:
        """The state that a resumed run needs.

        It includes the metrics of this step, whose line is written only after the next validation.
        """
        seconds = {"prefix_opd/seconds/step": time.time() - self.step_began}  # step_began is after the probe
        line = {**self.step_metrics, **seconds, **self.probe.metrics()}
        return {
            **self.ledger.state_dict(),
            "metrics": numbers(line),
            "probe": self.probe.state_dict(),
            "schedule": self.settings.schedule.state_dict(),
            "data": self.data,
        }

    def _load_checkpoint(self):
        super()._load_checkpoint()
        self.resumed_step = self.global_steps
        if not self.resumed_step:
            return
        # the launcher chose the checkpoint, see prefix_opd.run.checkpoints.settle_resume
        ledger_file = Path(self.config.trainer.resume_from_path) / LEDGER_FILE
        if ledger_file.exists():
            ledger = json.loads(ledger_file.read_text())
            self.ledger.load_state_dict(ledger)
            if reason_to_end(self):  # the budget; an old request to stop is forgotten by now
                self.total_training_steps = self.resumed_step
            self.recovered = ledger.get("metrics", {})
            if "probe" in ledger:  # missing in checkpoints of versions without probes
                self.probe.load_state_dict(ledger["probe"])
            self.settings.schedule.load_state_dict(ledger.get("schedule", {}))  # missing in older checkpoints
        else:  # a checkpoint of verl's own trainer
            logger.warning("%s is not there: FLOP and tokens are counted from here on", ledger_file)
        with open_dict(self.config):
            due = self.is_validated(self.resumed_step)
            self.config.trainer.val_before_train = due and self.resumed_step not in accuracies(self.run_folder)
        for line in read_metrics(self.run_folder):
            if line["step"] == self.resumed_step:
                self.lengths.validation(line)

    def is_validated(self, step: int) -> bool:
        """Whether a validation follows the step."""
        every = self.config.trainer.test_freq
        return every > 0 and (step % every == 0 or step >= self.total_training_steps)
