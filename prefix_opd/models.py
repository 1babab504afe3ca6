"""What a run must know of a model before it starts: its config, its tokenizer, the tokens that end its answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prefix_opd.errors import UserError
from prefix_opd.flops import ModelShape

CODE_CARRIERS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
"""Files of a model that can name Python code (``auto_map``) for transformers to run."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Model:
    """A Hugging Face model by its small files alone: no weight is read."""

    key: str
    """The config key that names it, for messages."""
    path: str
    """As the user gave it: a folder or a hub id."""
    trust_remote_code: bool = False

    @cached_property
    def folder(self) -> Path:
        """The local folder, fetched without weights if ``path`` is a hub id."""
        local = Path(self.path).expanduser()
        if local.is_dir():
            if not (local / "config.json").exists():
                raise UserError(f"{self.key}={self.path}", "is no model folder: it has no config.json")
            return local
        if self.path.startswith(("/", ".", "~")) or self.path.count("/") != 1:
            raise UserError(f"{self.key}={self.path}", "does not exist", "give a model folder or a hub id")
        return self._fetch()

    def _fetch(self) -> Path:
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.path, allow_patterns=["*.json", "*.txt", "*.jinja", "*.model"]))
        except Exception as error:
            raise UserError(
                f"{self.key}={self.path}",
                f"is no folder here and the hub did not give it ({type(error).__name__})",
                "give a model folder, or check the name, the network and HF_TOKEN",
            ) from None

    @cached_property
    def config(self) -> dict[str, Any]:
        return _read_json(self, self.folder / "config.json")

    def check_own_code(self) -> None:
        """Refuse a model that brings Python of its own, unless it is trusted. Raises UserError.

        Needed before verl: its reward workers load the student's tokenizer with ``trust_remote_code=True`` whatever
        the config says (verl/experimental/reward_loop/reward_loop.py:_init_reward_fn).
        """
        if self.trust_remote_code:
            return
        for path in sorted(self.folder.glob("*.json")):
            if path.name in CODE_CARRIERS and "auto_map" in _read_json(self, path):
                raise UserError(
                    f"{self.key}={self.path}",
                    f"its {path.name} names code of its own (auto_map)",
                    "read that code, then set actor_rollout_ref.model.trust_remote_code=true; or remove the entry",
                )

    def check_weights(self) -> None:
        """Refuse a local folder whose weights are pickles alone: reading one may run code. Raises UserError."""
        local = Path(self.path).expanduser()
        if not local.is_dir() or any(local.glob("*.safetensors")):
            return
        pickles = sorted(path.name for pattern in PICKLES for path in local.glob(pattern))
        if pickles:
            raise UserError(
                f"{self.key}={self.path}",
                f"has its weights as pickles alone ({pickles[0]})",
                "save them as safetensors: model.save_pretrained(FOLDER)",
            )
        raise UserError(f"{self.key}={self.path}", "has no weights (*.safetensors)", "name a folder that has some")

    @cached_property
    def shape(self) -> ModelShape:
        try:
            return ModelShape.from_config(self.config)
        except KeyError as error:
            raise UserError(f"{self.key}={self.path}", f"its config.json lacks {error.args[0]!r}") from None

    @cached_property
    def tokenizer(self):
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(str(self.folder), trust_remote_code=self.trust_remote_code)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0][:120]
            raise UserError(f"{self.key}={self.path}", f"its tokenizer does not load: {reason}") from None

    @cached_property
    def end_token_ids(self) -> list[int]:
        """Tokens that end an answer: the tokenizer's end token and those of the generation config."""
        found = {self.tokenizer.eos_token_id}
        path = self.folder / "generation_config.json"
        if path.exists():
            named = _read_json(self, path).get("eos_token_id")
            found |= set(named) if isinstance(named, list) else {named}
        return sorted(token for token in found if token is not None)


def _read_json(model: Model, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{model.key}={model.path}", f"its {path.name} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{model.key}={model.path}", f"its {path.name} is not one JSON object")
    return found


def check_same_vocabulary(student: Model, teacher: Model) -> None:
    """Teacher and student must mean the same by a token id; raises UserError that names the first difference."""
    ours, theirs = (
        {index: token for token, index in model.tokenizer.get_vocab().items()} for model in (student, teacher)
    )
    for index in range(max(max(ours), max(theirs)) + 1):
        if ours.get(index) != theirs.get(index):
            raise UserError(
                f"{student.key}={student.path}",
                f"its vocabulary differs from the teacher's at id {index}: "
                f"{ours.get(index)!r} against {theirs.get(index)!r} of {teacher.path}",
                "choose a student and a teacher of one family",
            )
