"""A reference to a value, which the receiving process looks up."""

from __future__ import annotations

import importlib


class RemoteValue:
    """A reference to ``module.qualname``. Unpickling returns the value itself.

    Requests of the agent-loop workers contain an enum member of vLLM's sampling parameters. Importing vLLM in a worker
    costs about ten seconds and half a gigabyte. The server that receives the request has imported vLLM anyway.
    """

    def __init__(self, module: str, qualname: str):
        self.module, self.qualname = module, qualname

    def __reduce__(self):
        return _look_up, (self.module, self.qualname)


def _look_up(module: str, qualname: str):
    value = importlib.import_module(module)
    for name in qualname.split("."):
        value = getattr(value, name)
    return value
