"""The paper's comparison in miniature: every arm, several seeds, real verl on the CPU, and the findings that follow.

Runs, rows and pages are those of `harness`. Here, in reading order: ``arms`` (what is compared), ``on_policy`` and
``seqkd`` with ``sft`` (the two kinds of run), ``prefixes`` (one model continues the other's answers), ``record`` (a row
of results.jsonl), ``curves`` and ``findings`` (verdicts from the rows alone), ``figures`` and ``report``
(docs/reproduction), ``driver`` (all of it).
"""
