"""vLLM's OpenAI-compatible server on the CPU: ``python teacher_server.py MODEL ARGUMENTS-OF-VLLM-SERVE``.

It is `vllm serve` of a GPU machine. vLLM's CPU build needs the package's CPU patches to find its own version.
"""

import sys

from prefix_opd.cpu.environment import set_environment
from prefix_opd.verl_plugin import our_run

if __name__ == "__main__":
    set_environment()
    our_run.begin(our_run.SWITCHES)
    from vllm.entrypoints.cli.main import main

    sys.argv = ["vllm", "serve", *sys.argv[1:]]
    main()
