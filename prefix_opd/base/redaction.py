"""Keep tokens and keys out of files, because run folders are shared."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import write_whole

HIDDEN = "***"
SHORTEST = 8
"""Shortest value that counts as a secret; shorter ones are words such as "true"."""
_NAME = re.compile(  # but not the special tokens of a tokenizer
    r"^(?!(pad|eos|bos|unk|mask)_token$)(.*[_-])?(token|(api|ssh|access|secret)_?key|secret|password|passwd|credentials?|auth(orization)?)$",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"\b(hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}"
    r"|glpat-[A-Za-z0-9_-]{20,}|AKIA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}|xox[abprs]-[A-Za-z0-9-]{10,})\b"
)
"""Tokens of the Hugging Face hub, OpenAI, GitHub, GitLab, AWS, Google and Slack, recognised by their form."""
_LOGIN_IN_URL = re.compile(r"(?<=://)[^\s/?#]*:[^\s/?#]*@|(?<=\bhttps://)[^\s/?#@]+@|(?<=\bhttp://)[^\s/?#@]+@")
"""A user name with a password; over HTTP also a user name alone, which may be a token."""
_SECRET_IN_QUERY = re.compile(
    r"([?&][\w-]*(?:token|key|secret|password|passwd|pwd|signature|credential)=)[^&\s#]+", re.IGNORECASE
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{16,}")


def is_secret_name(name: str) -> bool:
    """Whether a variable or key with this name contains a secret.

    >>> is_secret_name("WANDB_API_KEY"), is_secret_name("HF_TOKEN"), is_secret_name("max_num_batched_tokens")
    (True, True, False)
    """
    return bool(_NAME.match(name))


def check_no_secrets(config: DictConfig) -> None:
    """Raises UserError for a secret in the config, because verl prints the config and sends it to every tracker."""
    secrets = _environment_secrets()
    as_typed, as_read = (OmegaConf.to_container(config, resolve=resolve) for resolve in (False, True))
    for key, value in [*_leaves(as_typed, ""), *_leaves(as_read, "")]:  # the first names the key that was set
        if not isinstance(value, str) or not value:
            continue
        name = key.rpartition(".")[2]
        consequence = "and a config is printed, saved and sent to trackers"
        if is_secret_name(name):
            raise UserError(key, f"is a secret, {consequence}", f"export {name} instead")
        if redact(value, secrets) != value:
            raise UserError(key, f"holds a secret, {consequence}", "export it as a variable instead")


def redact(text: str, secrets: Collection[str] | None = None) -> str:
    """Replace secrets: those of this process's environment, anything in the form of one, logins in URLs.

    Everything that is printed, saved or shown goes through this function. A caller with many texts gives the
    ``secrets`` of the environment.

    >>> redact("http://me:pass@proxy:80/x?api_key=1"), redact("ssh://git@host/x")
    ('http://***@proxy:80/x?api_key=***', 'ssh://git@host/x')
    """
    for secret in sorted(_environment_secrets() if secrets is None else secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _LOGIN_IN_URL.sub(f"{HIDDEN}@", _VALUE.sub(HIDDEN, text))
    return _BEARER.sub(rf"\1 {HIDDEN}", _SECRET_IN_QUERY.sub(rf"\1{HIDDEN}", text))


def save_config(config: DictConfig, path: Path) -> None:
    """Write a resolved config without secrets."""
    write_whole(path, redact(OmegaConf.to_yaml(config, resolve=True)))


def without_secrets(node: Any) -> Any:
    """Copy nested containers without keys named like a secret; all text goes through `redact`."""
    if isinstance(node, Mapping):
        return {name: without_secrets(value) for name, value in node.items() if not is_secret_name(str(name))}
    if isinstance(node, (list, tuple)):
        return [without_secrets(value) for value in node]
    return redact(node) if isinstance(node, str) else node


def command_without_secrets(words: list[str]) -> list[str]:
    """A command line without the overrides and options that set a secret; the rest goes through `redact`."""
    names = (word.partition("=")[0].lstrip("+~-").rpartition(".")[2].replace("-", "_") for word in words)
    return [redact(word) for name, word in zip(names, words, strict=True) if not is_secret_name(name)]


def _environment_secrets() -> set[str]:
    return {value for name, value in os.environ.items() if is_secret_name(name) and len(value) >= SHORTEST}


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{prefix}.{index}")
    else:
        yield prefix, node
