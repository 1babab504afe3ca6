"""Schedules, weightings and objectives that are not the paper's: ours and those of its followers.

Each file has its source (docs/schedules.md). The import of this package registers all.

==================  ===============================================================================
``random_lengths``  each rollout its own L from a distribution, and the weights that undo the bias
``growth``          L grows by a signal: |reverse KL| or entropy of its end, validation, the tail
``probe``           L from the profile of a probe: the most reverse KL a FLOP, and ADWIN (arXiv 2605.28396)
``fast_opd``        Adaptive FastOPD (arXiv 2607.29494)
``prune_opd``       Prune-OPD (arXiv 2605.07804): an objective, and the schedule that belongs to it
``iw_opd``          IW-OPD (arXiv 2606.22600): an objective
==================  ===============================================================================
"""

from prefix_opd.method.contenders import fast_opd, growth, iw_opd, probe, prune_opd, random_lengths  # noqa: F401
