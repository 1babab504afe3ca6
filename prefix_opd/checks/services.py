"""Checks of the user's services and code: trackers, grader, rollout manager, and agent loop."""

from __future__ import annotations

import ast
import importlib.util
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from prefix_opd.base.errors import UserError
from prefix_opd.checks.keys import TRACKERS
from prefix_opd.config.keys import LOOP_KEY, ONE_TURN
from prefix_opd.config.plugins import look_here
from prefix_opd.grading import reward

PACKAGES = {
    "clearml": "clearml",
    "mlflow": "mlflow",
    "rl_insight": "rl_insight",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "vemlp_wandb": "volcengine_ml_platform",
    "wandb": "wandb",
}
"""Tracker -> the package that it imports (verl/utils/tracking.py)."""
VARIABLES = {
    "swanlab": ("SWANLAB_API_KEY",),
    "vemlp_wandb": ("VOLC_ACCESS_KEY_ID", "VOLC_SECRET_ACCESS_KEY", "MLP_TRACKING_REGION"),
}
"""Tracker -> its login variables, not needed if a variable of `_OFFLINE` says so."""
_OFFLINE = {
    "wandb": ("WANDB_MODE", ("offline", "disabled", "dryrun")),
    "swanlab": ("SWANLAB_MODE", ("local", "offline", "disabled")),
}
REWARD_KEY = "reward.custom_reward_function"
MANAGER_KEY = "actor_rollout_ref.rollout.agent.agent_loop_manager_class"
MANAGER = "prefix_opd.verl_plugin.worker.agent_loop.PrefixAgentLoopManager"
PACKAGE = "pkg://"
PASSED = ("data_source", "solution_str", "ground_truth", "extra_info")
"""Keyword arguments that verl passes to a grader (verl/experimental/reward_loop/reward_manager/naive.py)."""


def check_trackers(config: DictConfig) -> None:
    """Reject a tracker that is unknown to verl, not installed, or without credentials. Raises UserError."""
    named = config.trainer.logger
    names = list(named) if isinstance(named, ListConfig) else [named]
    for name in names:
        if not isinstance(name, str) or name not in TRACKERS:
            raise UserError(f"trainer.logger={named}", f"{name} is no tracker of verl", f"known: {', '.join(TRACKERS)}")
        package = PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            raise UserError(f"trainer.logger={named}", f"{name} needs the package {package}", f"pip install {package}")
        if missing := _missing_login(name):
            mode = f", or {_OFFLINE[name][0]}={_OFFLINE[name][1][0]}" if name in _OFFLINE else ""
            raise UserError(f"trainer.logger={named}", f"{name} has no key to log in with", f"export {missing}{mode}")


def _missing_login(name: str) -> str:
    variable, modes = _OFFLINE.get(name, ("", ()))
    if variable and os.environ.get(variable, "").lower() in modes:
        return ""
    if name == "wandb":
        return "" if os.environ.get("WANDB_API_KEY") or _in_netrc() else "WANDB_API_KEY"
    return next((one for one in VARIABLES.get(name, ()) if not os.environ.get(one)), "")


def _in_netrc() -> bool:
    """Whether ~/.netrc has the key; `wandb login` writes it there."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return host is not None and netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def check_grader(config: DictConfig) -> None:
    """Check that the grader exists and takes what verl passes, by reading its file without running it.

    ``prompt_ending``, which the recipe adds for this package's grader, is left out for a grader that does not take it.

    Raises:
        UserError: the grader cannot be called, or a setting of this package's grader is wrong.
    """
    node = OmegaConf.to_container(OmegaConf.select(config, REWARD_KEY), resolve=True)
    path, name = node.get("path"), node.get("name")
    for part, value in (("path", path), ("name", name)):
        if not isinstance(value, str) or not value:
            raise UserError(f"{REWARD_KEY}.{part}={value}", "must name the grader", "leave it out for this package's")
    file = _file(path)
    if file is None or not file.is_file():
        raise UserError(f"{REWARD_KEY}.path={path}", "does not exist", "give FILE.py, or pkg://MODULE")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        raise UserError(f"{REWARD_KEY}.path={path}", "is no Python file") from None
    if name not in _top_names(tree):
        raise UserError(f"{REWARD_KEY}.name={name}", f"is not defined in {path}")
    if path == f"{PACKAGE}{reward.__name__}":
        reward.settings_from(node.get("reward_kwargs") or {})
    elif (taken := _keywords(tree, name)) is not None:
        given = OmegaConf.select(config, f"{REWARD_KEY}.reward_kwargs") or {}
        if given and "prompt_ending" not in taken and OmegaConf.is_interpolation(given, "prompt_ending"):
            with open_dict(given):
                given.pop("prompt_ending")
        if missing := next((one for one in (*PASSED, *given) if one not in taken), None):
            raise UserError(f"{REWARD_KEY}.name={name}", f"takes no argument {missing}, which verl passes", "add it")


def check_manager(config: DictConfig) -> None:
    """Check that a rollout manager derives from this package's, which caps rollouts at L. Raises UserError.

    Reads the file without running it.
    """
    named = OmegaConf.select(config, MANAGER_KEY)
    if named != MANAGER and MANAGER.rpartition(".")[2] not in _bases(named):
        raise UserError(f"{MANAGER_KEY}={named}", f"must be a class that derives from {MANAGER}", "leave it out")


def check_agent_loop(config: DictConfig) -> None:
    """Check that the agent loop exists, by reading its file without running it, and that tools go with it.

    Raises:
        UserError: names the key.
    """
    named, tools = OmegaConf.select(config, LOOP_KEY), config.prefix_opd.rollout.tool_tokens
    if named == ONE_TURN:
        if tools:
            rule = f"makes room for tool outputs, but {ONE_TURN} has none"
            raise UserError(f"prefix_opd.rollout.tool_tokens={tools}", rule, f"set {LOOP_KEY}=MODULE.CLASS")
    elif not _bases(named):
        where = f"the module is looked for in {look_here()} and on PYTHONPATH"
        raise UserError(f"{LOOP_KEY}={named}", "is no class MODULE.CLASS that derives from verl's AgentLoopBase", where)


def check_one_turn(config: DictConfig) -> None:
    """Reject an agent loop where answers of one turn are measured. Raises UserError."""
    if (loop := OmegaConf.select(config, LOOP_KEY)) != ONE_TURN:
        raise UserError(f"{LOOP_KEY}={loop}", "has several turns, and answers of one turn are measured", "leave it out")


def _bases(named: Any) -> set[str]:
    """The names of the base classes of ``MODULE.CLASS``; empty if there is no such class."""
    look_here()
    module, _, name = named.rpartition(".") if isinstance(named, str) else ("", "", "")
    file = _file(f"{PACKAGE}{module}") if module else None
    try:
        tree = ast.parse(file.read_text(encoding="utf-8")) if file is not None else ast.Module([], [])
    except (SyntaxError, ValueError, OSError):
        tree = ast.Module([], [])
    return {
        getattr(base, "attr", getattr(base, "id", ""))
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == name
        for base in node.bases
    }


def _file(path: str) -> Path | None:
    if not path.startswith(PACKAGE):
        return Path(path.removeprefix("file://"))
    if "" in path.removeprefix(PACKAGE).replace("/", ".").split("."):
        return None
    try:
        found = importlib.util.find_spec(path.removeprefix(PACKAGE).replace("/", "."))
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(found.origin) if found is not None and found.origin else None


def _keywords(tree: ast.Module, name: str) -> set[str] | None:
    """The parameters of a function of a module; None if it takes any, or is not a plain function."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            arguments = node.args
            return None if arguments.kwarg else {one.arg for one in (*arguments.args, *arguments.kwonlyargs)}
    return None


def _top_names(tree: ast.Module) -> set[str]:
    """Names that a module binds, including those within ``if`` and ``try``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names
