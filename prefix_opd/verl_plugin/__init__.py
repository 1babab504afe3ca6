"""The adapters that meet verl 0.9.1. They call the mathematics of `prefix_opd` and hold none of their own.

=================  =================================================================================
`agent_loop`       caps training rollouts at L(step), names their stop tokens and their end
`fields`           reads a batch from TransferQueue into aligned tensors
`distillation`     registers the loss with verl, and the config node that carries its settings
`trainer`          the synchronous trainer with our advantage, metrics, FLOP ledger and checks
`early_dispatch`   hands out the next step's prompts before this step's metrics are told
`probe`            uncapped rollouts that are measured and not trained on
`samples`          keeps a few rollouts token by token, for the report
`engine_watch`     ends a run whose engine dies while weights travel to it
`trackers`         makes verl's trackers so that none of them can end the run
`startup`          brings student and teacher engines up side by side
`evaluator`        verl's validation in chunks, so that a stopped evaluation goes on
`weight_socket`    a socket of its own for each run's weights
`log_probs`        log p of the sampled tokens in large blocks, where flash-attn is missing
`update_columns`   names the columns of a batch that an update reads
`micro_batches`    cuts an update by length, where sequences are padded
`update_tokens`    an update with prompts computed once, and with logits of responses alone
`safe_loading`     loads checkpoints as tensors and plain values, never as code
`teacher_scores`   reads the teacher's log-probs as arrays, without an object for each
`contract`         names every hook of verl that we extend, and says what broke when one changes
=================  =================================================================================
"""

from __future__ import annotations

import sys
import traceback


def load() -> None:
    """Entry point of the group ``verl.plugins``: called by ``import verl`` in every process.

    Beyond a socket's name, log-probs without flash-attn, how a teacher's are read and how checkpoints are loaded it
    stays out of the way unless a CPU run is on. verl swallows what a plugin raises, so a failure is told here.
    """
    from prefix_opd import cpu
    from prefix_opd.verl_plugin import (
        log_probs,
        micro_batches,
        safe_loading,
        teacher_scores,
        update_tokens,
        weight_socket,
    )

    weight_socket.register()
    log_probs.register()
    micro_batches.register()
    update_tokens.register()
    safe_loading.register()
    teacher_scores.register()
    if not cpu.is_chosen():
        return
    try:
        cpu.activate()
    except Exception:
        print("prefix_opd: the CPU platform could not be set up, verl will fail for lack of it:", file=sys.stderr)
        traceback.print_exc()
        raise
