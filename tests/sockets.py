"""The addresses that the processes of a run listen on."""

from __future__ import annotations

import contextlib

import psutil


def listening(pid: int) -> dict[str, list[str]]:
    """Address -> names of the listening processes among ``pid`` and its descendants."""
    found: dict[str, set[str]] = {}
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            name = " ".join(process.cmdline()).strip()  # titles are padded with spaces
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.setdefault(connection.laddr.ip, set()).add(name)
    return {address: sorted(names) for address, names in found.items()}
