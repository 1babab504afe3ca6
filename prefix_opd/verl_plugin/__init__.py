"""The adapters that meet verl 0.9.1. They call the mathematics of `prefix_opd.method` and hold none of their own.

============  ======================================================================================
``trainer``   the synchronous trainer: advantage, metrics, FLOP ledger, watchers, probe, validation
``worker``    the agent loop: caps training rollouts, and what travels to and from it
``engine``    the loss, and how an update computes it
``server``    the teacher's scores, the weight socket, vLLM without verl around it
``fields``    reads a batch from TransferQueue into aligned tensors
``runner``    starts Ray and verl's task with our trainer
``patches``   the one table of everything that is replaced at run time
``our_run``   which processes belong to a run of ours, and which patches act there
``contract``  names every hook of verl that we extend, and says what broke when one changes
============  ======================================================================================
"""
