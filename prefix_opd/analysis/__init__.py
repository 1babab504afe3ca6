"""The paper's figures for the user's own student and teacher.

=================  ================================================================================
`signal`           figures 2 and 5: reverse KL by position, from a run's metrics
`prefixes`         figure 3 and its mirror: accuracy after a prefix from the teacher or the student
`continuation`     generation for `prefixes`: one model starts an answer, the other continues it
`compute`          figure 4: accuracy against FLOP and seconds, and the cost of a target accuracy
`schedule`         L, lengths, endings and seconds by step
`compare`          runs beside the paper's tables
`figures`          each analysis as curves and axes
`tables`           each analysis as a table
`draw`             a figure as PNG
=================  ================================================================================
"""
