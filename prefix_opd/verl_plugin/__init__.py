"""The adapters to verl 0.9.1. All formulas are in `prefix_opd.method`.

============  ======================================================================================
``trainer``   the synchronous trainer: advantage, metrics, FLOP ledger, watchers, probe, validation
``worker``    the agent loop: caps training rollouts, and its communication with servers and trainer
``engine``    the loss, and the computation of an update
``server``    the teacher's scores, the weight socket, offline vLLM
``fields``    reads a batch from TransferQueue into aligned tensors
``runner``    starts Ray and verl's task with our trainer
``patches``   the table of all run-time patches
``our_run``   marks the processes of a run, and installs patches in them
``contract``  checks every hook of verl that this package uses, and names what broke
============  ======================================================================================
"""
