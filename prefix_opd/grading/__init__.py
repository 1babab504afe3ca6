"""Grading: is a response right, and what do several samples say.

A tour, in the order in which a response travels:

``text``        what follows ``</think>``, the boxes and tags in it, prose without its marks
``mathematics`` the answer in it, and whether it equals the truth
``expression``  one spelling for many, numbers, units (``notation``: plain LaTeX for Unicode and plain text)
``choice``      the option's letter
``symbolic``    equality of tuples, sets and terms, in a process (``worker``) that ``pool`` kills when it takes too long
``grader``      one response to one ``Verdict``
``reward``      the same as verl's reward function, ``compute_score``
``statistics``  mean@k, pass@k, maj@k, bootstrap intervals
"""

from prefix_opd.grading.grader import grade
from prefix_opd.grading.reward import compute_score
from prefix_opd.grading.verdict import GradeSettings, Verdict, common_refusal

__all__ = ["GradeSettings", "Verdict", "common_refusal", "compute_score", "grade"]
