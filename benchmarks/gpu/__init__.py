"""Ours against verl's own on-policy distillation on GPUs: seconds by phase, tokens a second, MFU, memory.

    bash benchmarks/run.sh --gpu                      # into docs/benchmarks/gpu.md; at most 10 minutes
    bash benchmarks/run.sh --gpu --caps 256 1024 --minutes 5
    bash benchmarks/run.sh --gpu --platform cpu       # a rehearsal with tiny models, into outputs/benchmarks_gpu

Models have random weights of published shapes, and end tokens are ignored, so each response has exactly the cap's
length. A run takes all caps in turn, because its start takes longer than its steps. Each cap is a row of `gpu.jsonl`. A
run that is cut keeps the caps that it finished, and the next start measures the others.

A start takes minutes. Where the memory holds two runs, start them side by side, each with its own `--systems`, `--out`
and ``PREFIX_OPD_BENCHMARK_GATE=FILE``. A run starts up, then waits for its file before its first step. Nothing is
then said of the memory of a card.

=================  ==================================================================
`command`          options, the order of the runs, the time limit
`cases`            what is measured
`runs`             a case as a run of verl: overrides, steps
`agent_loop`       verl's agent loop with a cap that changes by step
`native`           verl's own trainer with our placement of the teacher; `native_poll` also polls as ours
`cards`            names, driver and used memory of the cards, by nvidia-smi
`page`             the page
=================  ==================================================================
"""
