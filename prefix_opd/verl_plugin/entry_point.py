"""Loaded by verl on import: see `prefix_opd.verl_plugin.load`."""

from prefix_opd.verl_plugin import load

load()
