"""Evaluation: verl's validation with uncapped responses, in chunks, so that a stopped evaluation can be resumed.

Modules in the order of use:

=============== ========================================================================================
``benchmarks``  the problems: a prepared set, a parquet file, or the miniature's test split; sampling
``target``      the model: a Hugging Face folder, a hub id, or a run's checkpoint, which is exported
``config``      verl's config: validation only, no teacher, prompts and stop tokens as in training
``record``      part files with finished chunks, and the check that a folder contains the same evaluation
``follow``      a progress bar
``table``       mean@k, pass@k, maj@k, intervals, lengths and endings; ``results.json``
=============== ========================================================================================

`prefix_opd.launch.evaluate` is the entry, `prefix_opd.verl_plugin.trainer.evaluator` the adapter to verl.
"""
