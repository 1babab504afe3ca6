"""The paper's comparison in miniature: every arm, several seeds, real verl on the CPU, and the findings.

`harness` provides runs, rows and pages. The modules, in reading order: ``arms`` (what is compared), ``on_policy`` and
``seqkd`` with ``sft`` (the two kinds of run), ``prefixes`` (one model continues the other's answers), ``record`` (a row
of results.jsonl, and the curve of an arm), ``findings`` (verdicts computed from the rows), ``figures`` and ``report``
(docs/reproduction), ``driver`` (runs everything).
"""
