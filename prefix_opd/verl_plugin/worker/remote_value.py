"""A value that is looked up where it is received."""

from __future__ import annotations

import importlib


class RemoteValue:
    """Stands for ``module.qualname`` and turns into it when it is unpickled.

    The agent-loop workers name an enum member of vLLM's sampling parameters in their requests. Importing vLLM there
    costs some ten seconds and half a gigabyte in each; the server that receives the request has it anyway.
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
