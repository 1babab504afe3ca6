"""The update alone: verl's FSDP engine with our patches and loss, random weights of a real shape, no Ray and no vLLM.

    python -m benchmarks.update                                       # Qwen3-1.7B on a GPU, L = 256 and 1024
    python -m benchmarks.update --shape tiny --tokens 64 --prompt 4 --response 4 12 --device cpu   # a rehearsal

An update is two micro-batches of ``--tokens`` packed tokens and a step of AdamW with a learning rate of 0, so every
variant sees the same weights. A variant adds one thing to the row "packed attention". One that fails is a row with its
reason. "Gradient" is the relative difference from the first row's gradient, in a few weights: rounding in bf16.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from benchmarks.update_engine import Bench
from benchmarks.update_variants import AS_BEFORE, HEAD, MICRO_BATCHES, PACKED, SHAPES, VARIANTS, Sizes, row
from harness.driver import Parser, exit_code, names, whole
from harness.page import grid, section
from prefix_opd.base.errors import UserError


def main(arguments: Sequence[str]) -> int:
    return exit_code(lambda: _main(_options(arguments)))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.update", description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="qwen3_1.7b", help=", ".join(SHAPES))
    parser.add_argument("--tokens", default="8192", help="of a micro-batch (default 8192)")
    parser.add_argument("--prompt", default="146", help="tokens of a prompt (default 146)")
    parser.add_argument("--response", nargs="+", default=["256", "1024"], help="tokens (default 256 1024)")
    parser.add_argument("--updates", default="2", help="timed updates, after one that warms up (default 2)")
    parser.add_argument("--seconds", type=float, default=100, help="no variant begins after this (default 100)")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="the first row, and these")
    parser.add_argument("--profile", metavar="VARIANT", help="print the operations of an update in place of tables")
    options = parser.parse_args(arguments)
    names("--shape", [options.shape], SHAPES, "shape")
    names("--device", [options.device], ("cuda", "cpu"), "device")
    variants = [variant.name for variant in VARIANTS]
    names("--only", options.only or [], variants, "variant")
    names("--profile", [options.profile] if options.profile else [], variants, "variant")
    for name in ("tokens", "prompt", "updates"):
        setattr(options, name, whole(f"--{name}", getattr(options, name), 1))
    options.response = [whole("--response", one, 1) for one in options.response]
    if options.prompt + max(options.response) > options.tokens:
        raise UserError(
            f"--tokens {options.tokens}",
            f"holds no sequence of {options.prompt} + {max(options.response)} tokens",
            "raise it or lower the others",
        )
    return options


def _main(options: argparse.Namespace) -> int:
    end = time.monotonic() + options.seconds
    tables = []
    with redirect_stdout(sys.stderr), _started(options.device, options.shape) as bench:  # verl prints
        if options.profile:
            sizes = Sizes(options.tokens, options.prompt, options.response[0])
            bench.row(PACKED, sizes, 1)
            tables.append(bench.profile(next(one for one in VARIANTS if one.name == options.profile), sizes))
        for length in [] if options.profile else options.response:
            sizes, rows = Sizes(options.tokens, options.prompt, length), []
            for variant in VARIANTS:
                if variant is not AS_BEFORE and options.only and variant.name not in options.only:
                    continue
                late = time.monotonic() > end
                rows.append(
                    row(variant, "not run: no time left") if late else bench.row(variant, sizes, options.updates)
                )
                print(grid(HEAD, rows).splitlines()[-1], flush=True)
            note = f"{bench.told}. {MICRO_BATCHES} micro-batches of {sizes}."
            tables.append(section(f"Update of {options.shape}, L = {length}", note, HEAD, rows))
    print("\n\n".join(tables))
    return 0


@contextmanager
def _started(device: str, shape: str) -> Iterator[Bench]:
    """The engine of one process on one device."""
    from prefix_opd.cpu.environment import set_environment
    from prefix_opd.verl_plugin import our_run

    if device == "cpu":
        set_environment()
    our_run.begin()
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda", "torch finds no GPU", "rehearse with --device cpu")
    with tempfile.TemporaryDirectory() as folder:
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            yield Bench(device, shape)
        finally:
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
