"""On-policy prefix distillation for verl (arXiv 2602.15260), along the way that the data takes.

=================  ==================================================================================
stage              module
=================  ==================================================================================
prompt             `prefix_opd.prompt`: the chat template and the text forced at its end (``<think>``)
capped rollout     `prefix_opd.schedule` gives L(step); `prefix_opd.ending` tells cut from ended
teacher score      verl's teacher servers; their alignment is fixed in `prefix_opd.verl_plugin.fields`
advantage          `prefix_opd.advantage`: A_t = stop_grad[log p_teacher - log p_student]
loss               `prefix_opd.loss`: -(p_theta / p_rollout) * A_t, and `prefix_opd.weighting`
metrics, FLOPs     `prefix_opd.metrics`, `prefix_opd.flops`, `prefix_opd.runlog`
=================  ==================================================================================

Beside it: `prefix_opd.data` and `prefix_opd.grading` (the paper's data sets and graders), `prefix_opd.evaluation`,
`prefix_opd.plan` (what a run will cost), `prefix_opd.compare` (beside the paper's tables).

`prefix_opd.settings` holds every setting of ours, `prefix_opd.preflight` every check of them,
`prefix_opd.verl_plugin` the adapters that meet verl, `prefix_opd.cpu` what a machine without a GPU needs,
`prefix_opd.tiny` the miniature. Nothing outside ``verl_plugin`` and ``cpu`` imports verl.

Symbols used everywhere: ``B`` sequences, ``T`` response tokens, ``L`` prefix cap, ``step`` the 1-based update,
``log_p`` student log-probs, ``log_q`` teacher log-probs.
"""

__version__ = "0.1.0"
VERL_VERSION = "0.9.1"
"""The one verl release that this package is written against."""
