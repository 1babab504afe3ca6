"""Grading of responses, and statistics over several samples.

Modules in the order of use:

=============== ==========================================================================================
``text``        the text after ``</think>``, its boxes and tags, prose without markup
``mathematics`` the answer in the text, and its comparison with the truth
``notation``    Unicode and plain text as plain LaTeX
``expression``  a canonical spelling of numbers, units and expressions
``units``       the unit of an answer
``choice``      the option's letter
``structure``   tuples, sets, lists and conditions in a text
``symbolic``    equality of tuples, sets and terms, in a process (``worker``) that ``pool`` kills at a time limit
``grader``      the ``Verdict`` of a response
``reward``      verl's reward function ``compute_score``
``statistics``  mean@k, pass@k, maj@k, bootstrap intervals
=============== ==========================================================================================
"""

from prefix_opd.grading.grader import grade
from prefix_opd.grading.reward import compute_score
from prefix_opd.grading.verdict import GradeSettings, Verdict, common_refusal

__all__ = ["GradeSettings", "Verdict", "common_refusal", "compute_score", "grade"]
