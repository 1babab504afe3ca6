"""The adapters that meet verl 0.9.1. They call the mathematics of `prefix_opd.method` and hold none of their own.

============  ======================================================================================
``trainer``   the synchronous trainer: advantage, metrics, FLOP ledger, watchers, probe, validation
``worker``    the agent loop: caps training rollouts, and what travels to and from it
``engine``    the loss, and how an update computes it
``server``    the teacher's scores, the weight socket, vLLM without verl around it
``fields``    reads a batch from TransferQueue into aligned tensors
``runner``    starts Ray and verl's task with our trainer
``contract``  names every hook of verl that we extend, and says what broke when one changes
============  ======================================================================================
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
    from prefix_opd.verl_plugin.engine import log_probs, micro_batches, safe_loading, update_tokens
    from prefix_opd.verl_plugin.server import teacher_scores, weight_socket

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
