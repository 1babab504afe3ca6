"""The paper's four figures for a pair of models of one's own: what they need, as functions of run folders.

=================  =====================================================================================
`signal`           figures 2 and 5: reverse KL by position, from a run's own metrics
`prefixes`         figure 3 and its mirror: accuracy after a given prefix of the teacher, or of the student
`continuation`     the generation behind them: one model begins, the other goes on
`compute`          figure 4: accuracy against FLOP and seconds, and what it takes to reach a target
`schedule`         L, lengths, endings and seconds by step
`figures`          each of them as curves and axes
`draw`             a figure as PNG
=================  =====================================================================================
"""
