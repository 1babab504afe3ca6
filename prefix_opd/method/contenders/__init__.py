"""Schedules, weightings and objectives that are not the paper's: ours and those of its followers.

One file for each idea, with its source (docs/schedules.md). The import of this package registers all.

==================  ===============================================================================
``random_lengths``  each rollout its own L from a distribution, and the weights that undo the bias
``growth``          L grows by a signal: |reverse KL| or entropy of its end, validation, the tail
``budget``          L with the most reverse KL a FLOP, from the profile of a probe
``adwin``           ADWIN (arXiv 2605.28396): the same profile, another rule
``fast_opd``        Adaptive FastOPD (arXiv 2607.29494)
``prune_opd``       Prune-OPD (arXiv 2605.07804): an objective, and the schedule that belongs to it
``iw_opd``          IW-OPD (arXiv 2606.22600): an objective
==================  ===============================================================================
"""

from prefix_opd.method.contenders import (  # noqa: F401
    adwin,
    budget,
    fast_opd,
    growth,
    iw_opd,
    prune_opd,
    random_lengths,
)
