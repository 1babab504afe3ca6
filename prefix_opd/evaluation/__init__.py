"""Evaluation: verl's own validation, uncapped, in chunks that survive a stop. Nothing here imports verl.

A tour, in the order in which an evaluation travels:

``settings``    what the user may set
``benchmarks``  the problems: a prepared set, a parquet file, or the miniature's test split
``target``      the model: a Hugging Face folder, a hub id, or a run's checkpoint (exported where need be)
``config``      verl's config for it: validation only, no teacher, stopped and asked as in training
``record``      what is done already: part files, and whether a folder holds this evaluation or another
``follow``      a progress bar over the part files
``table``       mean@k, pass@k, maj@k, intervals, lengths and endings; ``results.json``

`prefix_opd.verl_plugin.trainer.evaluator` is the adapter that meets verl, `prefix_opd.launch.evaluate` the entry.
"""
