"""Import once, fork many times: a run starts faster. Always on a CPU; on GPUs if `SWITCH` is 1.

A verl run has about a dozen processes. Each imports torch, Ray, verl and often vLLM, which takes 10 to 30 core-seconds
and half a gigabyte per process. Here the launcher imports these modules once and forks a *warm* copy of itself before
Ray starts. Ray (through its ``py_executable``) and vLLM (through `multiprocessing.set_executable`) then start their
processes with a stand-in for the interpreter. The stand-in asks the warm copy to fork and run the program. The
processes share the memory pages that they do not write to.

The stand-in sends argv, environment, working directory and open file descriptors over a Unix socket in a folder of the
user. If it cannot reach the warm copy, the stand-in runs the plain interpreter.

CUDA does not work in a fork of a process in which it has started. So the launcher of a GPU run asks NVML instead of
CUDA what GPUs there are (`load`), and does without a warm copy if CUDA has started anyway (`cuda_has_started`).

Ray's ids need care in forks: `prefix_opd.cpu.ray_ids`.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from prefix_opd.cpu.ray_ids import ClassIDs, forks_draw_alike
from prefix_opd.cpu.warm_child import RAY_JOB_ID, become

SWITCH = "PREFIX_OPD_WARM_START"
"""Environment variable: 1 starts GPU runs from a warm copy, too. Off by default: with vLLM 0.24.0 on an H200 an import
started CUDA, so the run did without."""
NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Environment variable of torch: 1 keeps ``torch.cuda.is_available()`` from starting CUDA."""
_OPEN_FILES = Path("/proc/self/fd")

_PRELOAD = (
    "prefix_opd.verl_plugin.worker.agent_loop",
    "prefix_opd.verl_plugin.engine.distillation",
    "prefix_opd.verl_plugin.trainer.trainer",
    "verl.experimental.reward_loop",
    "verl.workers.engine_workers",
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vllm.v1.engine.core",
    "vllm.model_executor.models.qwen3",
    "transformers.models.qwen3.modeling_qwen3",
    "verl.workers.rollout.vllm_rollout.utils",
    "ray._private.workers.default_worker",
)
PRELOAD = {name: (*_PRELOAD, f"vllm.v1.worker.{name}_worker") for name in ("cpu", "gpu")}
"""Platform -> the modules that the processes of a run import."""


GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL for programs that still run after the launcher has ended."""

_STAND_IN = '''#!{python} -IS
"""Stands in for the interpreter: see prefix_opd/cpu/warm_python.py."""
import array, json, os, signal, socket, sys

warm = socket.socket(socket.AF_UNIX)
try:
    warm.connect({address!r})
except OSError:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
descriptors = []
for name in os.listdir("/proc/self/fd"):
    descriptor = int(name)
    if descriptor != warm.fileno():
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        descriptors.append(descriptor)
request = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), descriptors]).encode()
warm.sendmsg(
    [len(request).to_bytes(8, "big")],
    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))],
)
warm.sendall(request)
for descriptor in descriptors:
    if descriptor > 2:
        os.close(descriptor)
pid = int.from_bytes(warm.recv(8, socket.MSG_WAITALL), "big")
if not pid:  # the warm copy ended before it heard of this
    os._exit(1)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, lambda number, frame: os.kill(pid, number))
status = warm.recv(8, socket.MSG_WAITALL)
code = int.from_bytes(status, "big", signed=True) if len(status) == 8 else 1
if code < 0:
    if -code != signal.SIGKILL:  # it takes no handler
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
'''


_loaded = False
starts_cuda = ""
"""The first module of `load` whose import started CUDA."""


def is_asked(platform: str) -> bool:
    """Whether a run on this platform starts from a warm copy, unless its patch is switched off."""
    return platform == "cpu" or os.environ.get(SWITCH) == "1"


def cuda_has_started() -> bool:
    """Whether this process has a CUDA driver at work: it then holds /dev/nvidia-uvm open, which NVML does not."""
    names = (os.readlink(one) for one in _OPEN_FILES.iterdir() if one.is_symlink())
    return any(name.startswith("/dev/nvidia-uvm") for name in names)


def why_not() -> str:
    """Why this process cannot be the warm copy; empty if it can."""
    if cuda_has_started():
        return f"importing {starts_cuda or 'an earlier module'} has started CUDA"
    return "an imported module has drawn an id from Ray" if forks_draw_alike() else ""


def load(modules: Iterable[str] = PRELOAD["cpu"]) -> None:
    """Import ``modules`` now, so that `start` is fast in this process and in its forks.

    Raises RuntimeError if Ray is already imported, without the variables that a warm copy needs.
    """
    global _loaded, starts_cuda
    if "ray" in sys.modules:
        raise RuntimeError("Ray was imported before the launcher could set the variables that it reads on import")
    # Ray's C++ part reads these once, on import. Workers end when the process with this id has ended. The raylet does
    # not exist yet, so the id is that of the launcher (or of the process that it was forked from).
    ours = {"RAY_JOB_ID": RAY_JOB_ID, "RAY_RAYLET_PID": str(os.getpid())}
    os.environ.update(ours)
    importlib.import_module("ray.actor").ActorClassID = ClassIDs
    for name in ours:
        del os.environ[name]
    os.environ.setdefault(NVML, "1")
    for module in modules:
        importlib.import_module(module)
        if not starts_cuda and cuda_has_started():
            starts_cuda = module
    _loaded = True


def start(modules: Iterable[str] = PRELOAD["cpu"]) -> Path | None:
    """Import ``modules`` (unless `load` has), fork the warm copy, and return the path of the stand-in interpreter.

    None, and no warm copy, if its forks would not work; `why_not` has the reason.

    Call it before anything starts a thread (Ray does, on ``ray.init``): a fork keeps only the thread that forks.
    The warm copy ends with this process.
    """
    if not _loaded:
        load(modules)
    if why_not():
        return None
    folder = Path(tempfile.mkdtemp(prefix="prefix-opd-"))
    address = folder / "warm.sock"
    stand_in = folder / "python"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(64)
    stand_in.write_text(_STAND_IN.format(python=sys.executable, address=str(address)))
    stand_in.chmod(0o700)

    leash, held = os.pipe()  # the other end closes when this process ends in any way
    os.set_inheritable(held, False)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        os.close(held)
        with contextlib.suppress(KeyboardInterrupt):
            _WarmCopy(listener, leash, stand_in).serve()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)
    listener.close()
    os.close(leash)
    return stand_in


class _WarmCopy:
    """Forks on request, reports the exit status to the stand-in, and ends the program when the stand-in dies."""

    def __init__(self, listener: socket.socket, leash: int, stand_in: Path):
        self.listener, self.leash, self.stand_in = listener, leash, stand_in
        self.clients: dict[socket.socket, int] = {}

    def serve(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the launcher decides
        wake_up, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self.listener, self.leash, wake_up, *self.clients], [], [])
            if self.leash in ready:
                break
            if wake_up in ready:
                os.read(wake_up, 4096)
                self._reap()
            for client in [client for client in ready if client in self.clients]:
                self._client_gone(client)
            if self.listener in ready:
                self._accept()
        self._end_all(wake_up)

    def _end_all(self, wake_up: int) -> None:
        """SIGTERM, then SIGKILL: a program that waits in C++ does not reach its SIGTERM handler."""
        for pid in self.clients.values():
            os.kill(pid, signal.SIGTERM)  # the process runs or is a zombie
        deadline = time.monotonic() + GRACE
        while self.clients and (left := deadline - time.monotonic()) > 0:
            if select.select([wake_up], [], [], left)[0]:
                os.read(wake_up, 4096)
                self._reap()
        for pid in self.clients.values():
            os.kill(pid, signal.SIGKILL)

    def _accept(self) -> None:
        client, _ = self.listener.accept()
        try:
            request, descriptors = _receive(client)
        except (OSError, ValueError):
            client.close()
            return
        pid = os.fork()
        if pid == 0:
            self.listener.close()
            os.close(self.leash)
            for other in self.clients:
                other.close()
            client.close()
            become(*request, descriptors, self.stand_in)
        for descriptor in descriptors:
            os.close(descriptor)
        self.clients[client] = pid
        with contextlib.suppress(OSError):  # killed in the meantime: `_client_gone` follows
            client.sendall(pid.to_bytes(8, "big"))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for client, child in list(self.clients.items()):
                if child == pid:
                    del self.clients[client]
                    with contextlib.suppress(OSError):
                        client.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
                    client.close()

    def _client_gone(self, client: socket.socket) -> None:
        """Kill the program of a killed stand-in. It sends nothing after its request, so readable means closed."""
        pid = self.clients.pop(client, None)
        client.close()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _receive(client: socket.socket) -> tuple[list, list[int]]:
    descriptors = array.array("i")
    head, ancillary, _, _ = client.recvmsg(8, socket.CMSG_LEN(253 * descriptors.itemsize))
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    size, body = int.from_bytes(head, "big"), b""
    while len(body) < size:
        part = client.recv(size - len(body))
        if not part:
            raise ValueError("a request was cut short")
        body += part
    return json.loads(body), list(descriptors)
