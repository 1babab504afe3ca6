"""On-policy prefix distillation for verl (arXiv 2602.15260).

The rooms, from the ground up. A module imports from its own room and from rooms below it.

===============  ==================================================================================
``base``         errors, files, processes, redaction
``method``       the algorithm: schedule, prompt, advantage, loss, weighting, FLOP, metrics
``miniature``    a tiny task with its teacher and student
``grading``      whether an answer is right
``config``       settings, composing a config, facts about models
``cpu``          verl, Ray and vLLM on a machine without a GPU
``data``         public data sets to verl's parquet
``run``          a run's folder: log, checkpoints, history, export
``smollm2``      a language model on arithmetic word problems
``cost``         FLOP, memory and hours of a run, before it starts
``checks``       the checks that reject a run, and those of ``doctor``
``evaluation``   mean@k on benchmark data sets
``verl_plugin``  the adapters that meet verl
``analysis``     the paper's figures from run folders
``report``       one HTML page
``commands``     the commands of ``prefix-opd``
===============  ==================================================================================

Symbols: ``B`` sequences, ``T`` response tokens, ``L`` prefix length, ``step`` the 1-based update, ``log_p`` student
log-probs, ``log_q`` teacher log-probs.
"""

__version__ = "0.1.0"
VERL_VERSION = "0.9.1"
"""The one verl release that this package is written against."""
RUN = "PREFIX_OPD_RUN"
"""The environment variable that marks a process of a run of ours (`prefix_opd.verl_plugin.our_run`): `ALL_PATCHES`, or
the names of the patches that act in it."""
ALL_PATCHES = "all"
