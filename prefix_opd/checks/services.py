"""Checks of the user's services and code: trackers, grader, rollout manager, and agent loop."""

from __future__ import annotations

import ast
import importlib.util
import netrc
import os
import symtable
from pathlib import Path
from types import NoneType
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from prefix_opd.base.errors import UserError
from prefix_opd.config.keys import LOOP_KEY, ONE_TURN
from prefix_opd.config.plugins import look_here
from prefix_opd.grading import reward

PACKAGES = {
    **{name: name for name in ("clearml", "mlflow", "rl_insight", "swanlab", "tensorboard", "trackio", "wandb")},
    "vemlp_wandb": "volcengine_ml_platform",
}
"""Tracker -> the package that it imports (verl/utils/tracking.py)."""
TRACKERS = sorted(("console", "file", *PACKAGES))
"""verl's trackers (verl/utils/tracking.py: Tracking.supported_backend)."""
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
    for name in named if isinstance(named, ListConfig) else [named]:
        what = f"trainer.logger={named}"
        if not isinstance(name, str) or name not in TRACKERS:
            raise UserError(what, f"{name} is not a tracker of verl", f"known: {', '.join(TRACKERS)}")
        package = PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            raise UserError(what, f"{name} needs the package {package}", f"pip install {package}")
        if missing := _missing_login(name):
            mode = f", or {_OFFLINE[name][0]}={_OFFLINE[name][1][0]}" if name in _OFFLINE else ""
            raise UserError(what, f"{name} has no key to log in with", f"export {missing}{mode}")


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
    Raises UserError, also for a wrong setting of this package's grader.
    """
    node = OmegaConf.to_container(OmegaConf.select(config, REWARD_KEY), resolve=True)
    path, name = node["path"], node["name"]
    file = _file(path)
    if file is None or not file.is_file():
        raise UserError(f"{REWARD_KEY}.path={path}", "does not exist", "give FILE.py, or pkg://MODULE")
    tree = _parsed(file)
    if tree is None:
        raise UserError(f"{REWARD_KEY}.path={path}", "is not valid Python", "give FILE.py, or pkg://MODULE")
    symbols = symtable.symtable(ast.unparse(tree), path, "exec").get_symbols()
    if not any(one.get_name() == name and (one.is_assigned() or one.is_imported()) for one in symbols):
        raise UserError(f"{REWARD_KEY}.name={name}", f"is not defined in {path}")
    ending = (node.get("reward_kwargs") or {}).get("prompt_ending")
    if not isinstance(ending, (str, NoneType)):
        what = f"{REWARD_KEY}.reward_kwargs.prompt_ending={ending}"
        raise UserError(what, "must be a text, the end of every prompt", "leave it out: the run fills it in")
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
    """Check that a rollout manager derives from this package's, which caps rollouts at L; its file is not run."""
    named = OmegaConf.select(config, MANAGER_KEY)
    if named != MANAGER and MANAGER.rpartition(".")[2] not in _bases(named):
        raise UserError(f"{MANAGER_KEY}={named}", f"must be a class that derives from {MANAGER}", "leave it out")


def check_agent_loop(config: DictConfig) -> None:
    """Check that the agent loop exists, by reading its file without running it, and that tools go with it."""
    named, tools = OmegaConf.select(config, LOOP_KEY), config.prefix_opd.rollout.tool_tokens
    if named == ONE_TURN:
        if tools:
            rule = f"makes room for tool outputs, but {ONE_TURN} has none"
            raise UserError(f"prefix_opd.rollout.tool_tokens={tools}", rule, f"set {LOOP_KEY}=MODULE.CLASS")
    elif not _bases(named):
        where = f"the module is looked for in {look_here()} and on PYTHONPATH"
        raise UserError(
            f"{LOOP_KEY}={named}", "is not a class MODULE.CLASS that derives from verl's AgentLoopBase", where
        )


def check_one_turn(config: DictConfig) -> None:
    """Reject an agent loop where answers of one turn are measured. Raises UserError."""
    if (loop := OmegaConf.select(config, LOOP_KEY)) != ONE_TURN:
        raise UserError(
            f"{LOOP_KEY}={loop}", "has several turns, but this command measures answers of one turn", "leave it out"
        )


def _bases(named: Any) -> set[str]:
    """The names of the base classes of ``MODULE.CLASS``; empty if there is no such class."""
    look_here()
    module, _, name = named.rpartition(".") if isinstance(named, str) else ("", "", "")
    tree = _parsed(_file(f"{PACKAGE}{module}"))
    return {
        getattr(base, "attr", getattr(base, "id", ""))
        for node in (ast.walk(tree) if tree else ())
        if isinstance(node, ast.ClassDef) and node.name == name
        for base in node.bases
    }


def _file(path: str) -> Path | None:
    """The file of a path or of ``pkg://MODULE``; None if there is no such module."""
    if not path.startswith(PACKAGE):
        return Path(path.removeprefix("file://"))
    try:
        found = importlib.util.find_spec(path.removeprefix(PACKAGE).replace("/", "."))
    except (ImportError, ValueError, AttributeError):  # a part of the name is empty, or no package
        return None
    return Path(found.origin) if found is not None and found.origin else None


def _parsed(file: Path | None) -> ast.Module | None:
    """The syntax tree of a Python file; None if it does not compile."""
    if file is None:
        return None
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        compile(tree, str(file), "exec")  # without running it
        return tree
    except (SyntaxError, ValueError, OSError):
        return None


def _keywords(tree: ast.Module, name: str) -> set[str] | None:
    """The parameters of a function of a module; None if it takes any, or is not a plain function."""
    functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    given = next((node.args for node in functions if node.name == name), None)
    return None if given is None or given.kwarg else {one.arg for one in (*given.args, *given.kwonlyargs)}
