"""Guards a step: every rollout of the batch must come back and pass the watchers before the update.

verl trains on whatever comes back. Here `watchers` checks the batch before the update. A discarded batch is sampled
again from the same prompts, for the same step, up to ``retries`` times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
import transfer_queue as tq
from torch import Tensor
from verl.utils import tensordict_utils as tu

from prefix_opd.base.errors import RunStopped, one_line
from prefix_opd.config.settings import WatcherSettings
from prefix_opd.run.events import THROWN_AWAY
from prefix_opd.verl_plugin.fields import COST_FIELDS, Rollouts, TrainBatch
from prefix_opd.verl_plugin.trainer import watchers
from prefix_opd.verl_plugin.trainer.engine_watch import while_waiting
from prefix_opd.verl_plugin.worker.agent_loop import ATTEMPT
from prefix_opd.verl_plugin.worker.progress import NO_PROGRESS

PARTITION = "train"
ALIVE_SECONDS = 10.0
"""Seconds between checks that the agent-loop workers live, while the trainer waits for rollouts."""


def forget_rollouts() -> None:
    """Delete all rollouts and requests from TransferQueue, so that no later step reads them."""
    keys = list((tq.kv_list(PARTITION) or {}).get(PARTITION, {}))
    if keys:
        tq.kv_clear(keys=keys, partition_id=PARTITION)


class ThrownAway(Exception):
    """The batch is discarded; the message gives the reason."""


class StepGuard:
    """Wraps an update of `PrefixOPDTrainer`."""

    def __init__(self, trainer, settings: WatcherSettings):
        self.trainer, self.settings = trainer, settings
        self.submitted: Any = None
        self.places: dict[str, int] = {}
        self.attempt = 0
        self.judged = False
        """Whether the step's rollouts passed all checks. Later errors are not caused by these rollouts."""
        self.warned = 0  # warnings of this step; the trainer resets the count when a step begins
        while_waiting(trainer.replay_buffer, ALIVE_SECONDS, self._ask_whether_workers_live)

    # ---- order ----

    def remember(self, batch) -> None:
        """Keep the prompts of the step and their order."""
        self.submitted = batch
        self.places = {str(uid): place for place, uid in enumerate(batch["uid"])}

    def put_in_order(self, batch) -> None:
        """Sort rollouts by prompt in place of arrival, so that floating-point sums are the same in every run."""
        batch.reorder(sorted(range(len(batch.keys)), key=lambda i: self._place(batch.keys[i])))

    def _place(self, key: str) -> tuple[int, ...]:
        uid, *numbers = key.split("_")  # {uid}_{session}_{index}
        return (self.places[uid], *map(int, numbers))

    def name(self, key: str) -> str:
        """The name of a rollout in messages."""
        prompt, rollout, *_ = self._place(key)
        return f"prompt {prompt}, rollout {rollout} (from 0)"

    # ---- judgement ----

    def check_all_came(self, batch, metrics: dict[str, Any]) -> None:
        """Check that every rollout of the step came back."""
        config = self.trainer.config
        expected = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
        watched = watchers.missing_rollouts(len(batch.keys), expected, self.take_failures())
        try:
            self._act(watched, metrics)
        except ThrownAway:  # the rollouts that came back cost FLOP
            if batch.keys:
                data = tq.kv_batch_get(batch.keys, batch.partition_id, select_fields=COST_FIELDS)
                self.trainer.ledger.add_thrown_away(Rollouts.read(data), recomputed=False)
            raise

    def check_rollouts(
        self, rollouts: TrainBatch, advantage: Tensor, keys: Sequence[str], metrics: dict[str, Any]
    ) -> None:
        """The last check of a batch before the update."""
        ledger, names = self.trainer.ledger, [self.name(key) for key in keys]
        limits = ledger.vocabulary, int(self.trainer.config.data.max_response_length)
        try:
            self._act(watchers.before_update(rollouts, names, advantage, *limits), metrics)
        except ThrownAway:
            ledger.add_thrown_away(rollouts, ledger.recomputed)
            raise
        metrics["prefix_opd/watch/thrown_away"] = self.attempt
        self.judged = True

    def check_update(self, metrics: dict[str, Any]) -> None:
        """Check the metrics of the update."""
        self._act(watchers.after_update(metrics), metrics)

    def check_validation(
        self, came: int, expected: int, natural_ends: Sequence[float | None], metrics: dict[str, Any]
    ) -> None:
        """Check the responses of a validation. Raises RunStopped if the engines made no progress."""
        failures = self.take_failures()
        if (stuck := next((line for line in failures if NO_PROGRESS in line), None)) is not None:
            raise RunStopped(f"step {self.trainer.global_steps}: the validation was given up ({stuck})")
        self._act(watchers.validation(came, expected, failures, natural_ends), metrics)

    def warn(self, told: str) -> None:
        """Report and count a warning of this step."""
        self.warned += 1
        self.trainer.events.warn(self.trainer.global_steps, told)

    def _act(self, watched: watchers.Watched, metrics: dict[str, Any]) -> None:
        values, findings = watchers.judge(watched, self.settings)
        metrics.update({f"prefix_opd/watch/{name}": value for name, value in values.items()})
        for finding in findings:
            if finding.action == "stop":
                raise RunStopped(f"step {self.trainer.global_steps}: {finding.told}")
            if finding.action == "skip":
                raise ThrownAway(finding.told)
            self.warn(finding.told)
        metrics["prefix_opd/watch/warned"] = self.warned

    # ---- once more ----

    def run(self, step_once: Callable[[], Any], metrics: dict[str, Any]):
        """Run one update. A discarded batch is sampled again from the same prompts."""
        self.attempt = 0
        before = dict(metrics)
        while True:
            try:
                return self._with_reasons(step_once)
            except ThrownAway as thrown:
                told = f"step {self.trainer.global_steps}: {thrown}"
                if self.attempt >= self.settings.retries:
                    raise RunStopped(
                        f"{told}; {self.attempt + 1} batches were thrown away, nothing was learnt from them"
                    ) from None
                self.attempt += 1
                again = f"{thrown}: the batch is thrown away and sampled again ({self.attempt})"
                self.trainer.events.warn(self.trainer.global_steps, again, THROWN_AWAY)
                metrics.clear()
                metrics.update(before)
                try:
                    self._sample_again()
                except Exception as error:  # e.g. an engine died
                    raise RunStopped(f"{told}; it cannot be sampled again ({one_line(error)})") from error

    def _with_reasons(self, step_once: Callable[[], Any]):
        self.judged = False
        try:
            return step_once()
        except RuntimeError as error:
            # verl's replay buffer raises if no rollout came back. After the checks (`judged`), failures may belong to
            # rollouts of the next step.
            if isinstance(error, RunStopped) or self.judged or not (failures := self.take_failures()):
                raise
            raise ThrownAway(f"no rollout came back whole and scored ({failures[0]})") from error

    def _sample_again(self) -> None:
        forget_rollouts()
        self.trainer.turns.sample_again()  # the engines sleep while verl trains
        tu.assign_non_tensor_data(self.submitted, ATTEMPT, self.attempt)
        self.trainer._submit_batch_to_rollout(self.submitted)

    # ---- the workers ----

    def take_failures(self) -> list[str]:
        """Failures of rollouts since the last call, one line each."""
        workers = self.trainer.agent_loop_manager.agent_loop_workers
        return [line for lines in ray.get([worker.take_failures.remote() for worker in workers]) for line in lines]

    def _ask_whether_workers_live(self, partition_id: str) -> None:
        """verl polls without end, even if a worker died."""
        ray.get([worker.alive.remote() for worker in self.trainer.agent_loop_manager.agent_loop_workers])
