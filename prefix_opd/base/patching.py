"""Replace functions of other packages when their modules are imported, and keep the originals."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Target:
    """One thing that is replaced."""

    where: str
    """``module:name.name``, the last name an attribute or a key of a mapping."""
    by: str = ""
    """Function in `Patch.module`: the original -> what replaces it. Empty where ``when`` says who replaces it."""
    reads: str = ""
    """Names and strings in the original's code that ours relies on, separated by spaces."""
    when: str = ""
    """When it is replaced, if that is not at the import of its module."""


@dataclass(frozen=True)
class Patch:
    """A row of the table: what is replaced together."""

    name: str
    processes: str
    targets: tuple[Target, ...]
    why: str
    """Of verl 0.9.1 and vLLM, with file and line."""
    until: str
    """When it can go."""
    without: str = ""
    """What a run loses without it."""
    needed: str = ""
    """Why every run needs it; empty: ``prefix_opd.patches_off`` can switch it off."""
    upstream: str = ""
    """The issue or pull request there."""
    cpu: bool = False
    """Whether it acts on the CPU platform alone."""
    module: str = ""
    """Our module with the replacements."""

    def by(self, target: Target) -> str:
        """``module:function`` of ours that replaces a target; empty where `Target.when` says who does."""
        return target.by and f"{self.module}:{target.by}"


def around(ours: Callable) -> Callable[[Callable], Callable]:
    """Decorator of a patch: ``ours(original, *arguments)`` is called in place of ``original(*arguments)``."""

    @functools.wraps(ours)
    def replacing(original: Callable) -> Callable:
        @functools.wraps(original)
        def replacement(*args, **kwargs):
            return ours(original, *args, **kwargs)

        return replacement

    return replacing


_originals: dict[str, Any] = {}


def replace(where: str, by: str) -> None:
    """Replace ``where`` now if its module is imported, else right after its import. A second call does nothing.

    Both are as in `Target`; the original is None if there is none.
    """
    call_after_import(where.partition(":")[0], functools.partial(_replace, where, by))


def is_replaced(where: str) -> bool:
    """Whether `replace` has taken effect there in this process."""
    return where in _originals


def original(where: str) -> Any:
    """What the other package defines at ``where``. Raises ImportError or AttributeError if it defines nothing."""
    stands = current(where)  # this import also applies a replacement that waits for it
    return _originals.get(where, stands)


def current(where: str) -> Any:
    """What is at ``where`` in this process: the original, or its replacement."""
    module, _, names = where.partition(":")
    return functools.reduce(_member, names.split("."), importlib.import_module(module))


def _replace(where: str, by: str, module: ModuleType) -> None:
    if where in _originals:
        return
    *path, name = where.partition(":")[2].split(".")
    owner = functools.reduce(_member, path, module)
    stands = _member(owner, name)
    made = current(by)(stands)
    _originals[where] = stands
    if isinstance(owner, MutableMapping):
        owner[name] = made
    else:
        setattr(owner, name, staticmethod(made) if name == "__new__" else made)


def _member(owner: Any, name: str) -> Any:
    return owner.get(name) if isinstance(owner, MutableMapping) else getattr(owner, name)


def call_after_import(name: str, callback: Callable[[ModuleType], None]) -> None:
    """Call ``callback(module)`` now if the module is already imported, else right after its first import."""
    if name in sys.modules:
        callback(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, callback))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, callback: Callable[[ModuleType], None]):
        self.name, self.callback = name, callback

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self.callback(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
