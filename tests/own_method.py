"""A method of one's own: a schedule that adapts, with a length for each row, a weighting and an objective."""

from prefix_opd.base.fields import Tokens
from prefix_opd.method.objective import OBJECTIVES, PrefixOPD
from prefix_opd.method.schedule import SCHEDULES, Schedule
from prefix_opd.method.weighting import WEIGHTINGS, Weighting


@SCHEDULES.register("by-longest")
class ByLongest(Schedule):
    """L grows by the longest response; every other row has a token more."""

    first: Tokens = 1
    """L at step 1, tokens."""
    _grown: int = 0

    def prefix_lengths(self, step, longest, rows):
        return [self.first + self._grown + row % 2 for row in range(rows)]

    def observe(self, metrics):
        self._grown += int(metrics["prefix_opd/response_length/max"])


@WEIGHTINGS.register("even")
class Even(Weighting):
    """2 at every other position."""

    def weights(self, positions, lengths):
        return 2 * (positions % 2 == 0)


@OBJECTIVES.register("scaled")
class Scaled(PrefixOPD):
    label = "scaled reverse KL"
    scale: float = 1.0
    """Factor of the advantage."""

    def advantage(self, log_p, log_q, mask):
        return self.scale * super().advantage(log_p, log_q, mask)

    def token_losses(self, log_p, log_p_rollout, advantage, weights):
        assert set(weights.unique().tolist()) <= {0.0, 2.0}, "the weighting of this module"
        return super().token_losses(log_p, log_p_rollout, advantage, weights)
