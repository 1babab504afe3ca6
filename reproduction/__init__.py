"""The paper's comparison in miniature: every arm, several seeds, real verl on the CPU, and what follows from it.

Read in this order: ``arms`` (what is compared), ``isolation`` (one run at a time, its processes gone before the next),
``on_policy`` and ``seqkd`` (the two kinds of run), ``record`` (a line of results.jsonl), ``findings`` (verdicts from
those lines alone), ``figures`` and ``report`` (docs/reproduction), ``driver`` (all of it, resumable).
"""
