"""The full-length probe: rollouts of a few training prompts, sampled without a cap and scored, never trained on.

Training with a short prefix gives no metrics beyond the prefix. The probe sends the same few prompts through verl's
agent loop with L = ``data.max_response_length`` (`fields.PREFIX_LENGTH`) and measures the reverse KL at every position.
It reads the data set in place of the data loader, and its rollouts have their own seeds. So the probe changes neither
the prompts nor the random numbers of training. The run's ledger does not include its cost.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import numpy as np
import transfer_queue as tq
from torch import Tensor
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn

from prefix_opd.base.errors import RunStopped, one_line
from prefix_opd.method import names
from prefix_opd.method.metrics import Bins, by_position, reverse_kl_by_position, tail_growth
from prefix_opd.verl_plugin.fields import PREFIX_LENGTH, PROBE_SEED, TRAIN_FIELDS, TrainBatch, read_train_batch
from prefix_opd.verl_plugin.trainer.step_guard import forget_rollouts

TOLD = 3
"""Number of failed rollouts that a warning names."""


def profile(log_p: Tensor, log_q: Tensor, positions: Tensor, bin_width: int) -> dict[str, float]:
    """The probe's metrics by position; arguments as in `reverse_kl_by_position`."""
    by_bin = reverse_kl_by_position(log_p, log_q, positions, {}, bin_width)
    squares = by_position((log_p - log_q).square(), positions, bin_width)
    found = {f"probe/{name.replace('/all/', '/')}": value for name, value in by_bin.items()}
    return found | {f"{names.PROBE_SQUARES.removeprefix(names.OURS)}{first}": mean for first, mean, _ in squares}


class Probe:
    """Run by the trainer before an update, with the weights that sample the update's rollouts."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.settings = trainer.settings.probe
        self.first: Bins | None = None
        self.flops = 0.0
        self.seconds = 0.0
        self.found: dict[str, float] = {}

    def is_due(self, step: int) -> bool:
        """True at step 1, 1 + every, 1 + 2 every, ..., and at the last step."""
        last = step == self.trainer.total_training_steps
        return self.settings.every > 0 and (last or (step - 1) % self.settings.every == 0)

    def run(self, step: int) -> None:
        """Sample, score and measure. `take` returns the metrics."""
        began = time.monotonic()
        try:
            data = self._sample(step)
            rollouts = read_train_batch(data, recomputed=False)
            length = self.trainer.lengths.longest(step)
            self.found = self._measure(rollouts, step, length)
            self.trainer.samples.record(step, "probe", rollouts, data, [length] * len(rollouts.lengths))
        except RunStopped:
            raise
        except RuntimeError as error:  # from `_sample`, or from verl's replay buffer if no rollout came back
            self._give_up(error)
        self.seconds = time.monotonic() - began
        self.found["probe/seconds"] = self.seconds

    def _give_up(self, error: RuntimeError) -> None:
        """Discard the probe's rollouts and warn. The step goes on, because training does not need the probe."""
        failures = self.trainer.guard.take_failures()
        forget_rollouts()
        told = "; ".join(failures[:TOLD]) or one_line(error)
        self.trainer.guard.warn(f"its probe is skipped, {max(len(failures), 1)} of its rollouts failed ({told})")
        self.found = {"probe/failed": 1.0}

    def metrics(self) -> dict[str, float]:
        """The metrics of this step's probe; empty without a probe or after `take`."""
        return {f"prefix_opd/{name}": value for name, value in self.found.items()}

    def take(self) -> dict[str, float]:
        """Return the metrics and clear them."""
        found = self.metrics()
        self.found, self.seconds = {}, 0.0
        return found

    # ---- what a checkpoint keeps ----

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "flops": self.flops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        first = state["first"]  # JSON has no integer keys
        self.first = first and {int(position): tuple(found) for position, found in first.items()}
        self.flops = state["flops"]

    # ---- sampling ----

    def _sample(self, step: int) -> Any:
        """The fields of one scored rollout per prompt."""
        prompts = self._prompts()
        batch = tu.get_tensordict(prompts)
        tu.assign_non_tensor_data(batch, "global_steps", step)
        # verl's method: the trainer's override would remember these prompts as those of the step
        PPOTrainerSync._submit_batch_to_rollout(self.trainer, batch)
        self.trainer.turns.begin_scoring()
        try:
            answered, _ = self.trainer.replay_buffer.sample(
                global_steps=step, partition_id="train", batch_size=len(prompts["uid"])
            )
        finally:
            if self.trainer.turns.taken:
                self.trainer.turns.sample_again()
                self.trainer.turns.take_seconds()  # they are no part of the step
        if len(answered.keys) != len(prompts["uid"]):
            raise RuntimeError(
                f"{len(answered.keys)} of {len(prompts['uid'])} came back scored; see the log for the others"
            )
        # in the order of the prompts, to compare the same prompts across probes
        keys = sorted(answered.keys, key=lambda key: prompts["uid"].tolist().index(key.rsplit("_", 2)[0]))
        data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=TRAIN_FIELDS)
        tq.kv_clear(keys=keys, partition_id="train")
        return data

    def _prompts(self) -> dict[str, Any]:
        """The probe's prompts, evenly spread over the training data."""
        data = self.trainer.train_dataset
        count = min(self.settings.prompts, len(data))
        batch = collate_fn([data[i * len(data) // count] for i in range(count)])
        columns = {
            "uid": [str(uuid.uuid4()) for _ in range(count)],
            "__rollout_n__": [1] * count,
            PROBE_SEED: list(range(count)),
            PREFIX_LENGTH: [int(self.trainer.config.data.max_response_length)] * count,
        }
        return {**batch, **{name: np.array(values, dtype=object) for name, values in columns.items()}}

    # ---- measuring ----

    def _measure(self, rollouts: TrainBatch, step: int, prefix_length: int) -> dict[str, float]:
        fields = [field[rollouts.mask] for field in (rollouts.log_p, rollouts.log_q, rollouts.positions())]
        found = profile(*fields, self.trainer.ledger.position_bin)
        magnitudes = names.bins(found, "probe/reverse_kl_abs_by_position/")
        bins = {first: (mean, found[f"probe/tokens_by_position/{first}"]) for first, mean in magnitudes.items()}
        found["probe/response_length/mean"] = sum(rollouts.sampled_lengths) / len(rollouts.lengths)
        found.update(self._account(rollouts))
        found.update(self._compare(bins, step, prefix_length))
        return found

    def _account(self, rollouts: TrainBatch) -> dict[str, float]:
        spent = self.trainer.ledger.exact(rollouts, recomputed=False)
        flops = spent.sampling + spent.teacher_scoring  # no update
        self.flops += flops
        return {"probe/flops_exact": flops, "probe/flops_exact/so_far": self.flops}

    def _compare(self, bins: Bins, step: int, prefix_length: int) -> dict[str, float]:
        if self.first is None:
            self.first = bins
        tail = tail_growth(bins, self.first, prefix_length)
        if tail is None:
            return {}
        if tail.ratio > self.settings.tail_warning:
            self.trainer.events.warn(
                step,
                f"mean |reverse KL| beyond L={prefix_length} is {tail.ratio:.2f} times that of the first probe (most "
                f"in the bin from position {tail.worst}: {tail.worst_ratio:.2f} times): beyond L the student "
                "drifts from the teacher; raise L sooner (prefix_opd.schedule), lower the learning rate, or end with "
                "full OPD",
            )
        return {"probe/tail_ratio": tail.ratio}
