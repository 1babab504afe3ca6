"""Schedules, weightings and objectives that are not the paper's: ours and those of its followers.

One file for each idea, with its source (docs/schedules.md compares them). The import of this package registers all.

===================  ==============================================================================
``random_lengths``   each rollout its own L from a distribution, and the weights that undo the bias
===================  ==============================================================================
"""

from prefix_opd.method.contenders import random_lengths  # noqa: F401
