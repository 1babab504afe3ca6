"""What a run must know of a model before it starts: its config, its tokenizer, the tokens that end its answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.decoder import decoder_config, shape_of
from prefix_opd.method.flops import ModelShape

SMALL_FILE = 4 << 20
"""Bytes. Any JSON file of a model but its vocabulary may name Python code (``auto_map``) for transformers to run; the
largest tokenizer_config.json of public models has some 200 KB."""
HUB_SECONDS = 10.0
PLAIN_DECODERS = ("llama", "mistral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
"""Model types with plain softmax attention, whose logits are the output of the head as it is."""
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
        return read_json(self, self.folder / "config.json")

    def check_own_code(self, trust: str = "set actor_rollout_ref.model.trust_remote_code=true") -> None:
        """Refuse a model that brings Python of its own, unless it is trusted. Raises UserError.

        Args:
            trust: how the user of this command says that the model is trusted.

        Needed before verl: its reward workers load the student's tokenizer with ``trust_remote_code=True`` whatever
        the config says (verl/experimental/reward_loop/reward_loop.py:_init_reward_fn).
        """
        if self.trust_remote_code:
            return
        for path in sorted(self.folder.glob("*.json")):
            if path.stat().st_size <= SMALL_FILE and _names_code(read_json(self, path)):
                raise UserError(
                    f"{self.key}={self.path}",
                    f"its {path.name} names code of its own (auto_map)",
                    f"read that code, then {trust}; or remove the entry",
                )

    def check_weights(self) -> None:
        """Refuse weights that are pickles alone: reading one may run code. Raises UserError.

        Of a hub id the hub's list of files is looked at; without a network it is passed over.
        """
        local = Path(self.path).expanduser()
        names = sorted(path.name for path in local.iterdir()) if local.is_dir() else self._files_on_hub()
        if names is None or any(fnmatch(name, "*.safetensors") for name in names):
            return
        pickles = [name for name in names if any(fnmatch(name, pattern) for pattern in PICKLES)]
        if pickles:
            raise UserError(
                f"{self.key}={self.path}",
                f"has its weights as pickles alone ({pickles[0]})",
                "save them as safetensors: model.save_pretrained(FOLDER)",
            )
        raise UserError(f"{self.key}={self.path}", "has no weights (*.safetensors)", "name a folder that has some")

    def _files_on_hub(self) -> list[str] | None:
        """Names of the hub's files of this model; none where it cannot be asked."""
        from huggingface_hub import HfApi, constants

        if constants.HF_HUB_OFFLINE:
            return None
        try:
            listed = HfApi().model_info(self.path, timeout=HUB_SECONDS).siblings
        except Exception:  # whatever it is: the engines will ask the hub again, and tell
            return None
        return sorted(file.rfilename for file in listed or ())

    @cached_property
    def tensors(self) -> dict[str, list[int]]:
        """Name -> shape of each tensor, by the headers of the local weights; empty where they are not at hand."""
        files = sorted(Path(self.path).expanduser().glob("*.safetensors"))
        return {name: entry["shape"] for path in files for name, entry in _safetensors_header(self, path).items()}

    @property
    def embedding_rows(self) -> int | None:
        """Rows of the embedding; none where the weights are not at hand."""
        rows = (shape[0] for name, shape in self.tensors.items() if name.endswith("embed_tokens.weight"))
        return next(rows, None)

    @property
    def linear_layers(self) -> set[str]:
        """Names of the linear layers in the decoder's layers; empty where the weights are not at hand."""
        inside = (name.split(".") for name, shape in self.tensors.items() if len(shape) == 2 and ".layers." in name)
        return {parts[-2] for parts in inside if parts[-1] == "weight"}

    @property
    def largest_tensor(self) -> int:
        """Numbers in the largest tensor: by the config, and by the headers of the local weights."""
        # files may hold the experts one by one
        return max([*map(math.prod, self.tensors.values()), self.shape.largest_tensor])

    @cached_property
    def decoder(self) -> dict[str, Any]:
        """The text part of the config, completed (`prefix_opd.config.decoder`)."""
        return decoder_config(f"{self.key}={self.path}", self.config)

    @cached_property
    def shape(self) -> ModelShape:
        return shape_of(f"{self.key}={self.path}", self.decoder)

    @property
    def context(self) -> int | None:
        """Positions that the model was made for; none: it does not say."""
        return self.decoder.get("max_position_embeddings")

    @cached_property
    def tokenizer(self):
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(str(self.folder), trust_remote_code=self.trust_remote_code)
        except Exception as error:  # each kind of tokenizer file breaks in a way of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise UserError(f"{self.key}={self.path}", f"its tokenizer does not load: {reason}") from None

    def prompt(self, messages: Sequence[Mapping[str, str]], template: str | None = None, **variables: Any) -> str:
        """A chat prompt as text; ``template`` replaces the tokenizer's own, ``variables`` go to it."""
        return self.tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=True, tokenize=False, **variables
        )

    @cached_property
    def end_token_ids(self) -> list[int]:
        """Tokens that end an answer: the tokenizer's end token and those of the generation config."""
        found = {self.tokenizer.eos_token_id}
        path = self.folder / "generation_config.json"
        if path.exists():
            named = read_json(self, path).get("eos_token_id")
            named = named if isinstance(named, list) else [named]
            if not all(token is None or type(token) is int for token in named):
                raise UserError(f"{self.key}={self.path}", f"its generation_config.json has eos_token_id={named}")
            found |= set(named)
        return sorted(token for token in found if token is not None)


def end_token_ids(models: Iterable[Model]) -> list[int]:
    """Tokens that end an answer of any of the models."""
    return sorted({token for model in models for token in model.end_token_ids})


def _names_code(node: Any) -> bool:
    """Whether ``auto_map`` stands anywhere in a JSON value: configs nest configs."""
    if isinstance(node, dict):
        return "auto_map" in node or any(map(_names_code, node.values()))
    return isinstance(node, list) and any(map(_names_code, node))


def read_json(model: Model, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{model.key}={model.path}", f"its {path.name} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{model.key}={model.path}", f"its {path.name} is not one JSON object")
    return found


def _safetensors_header(model: Model, path: Path) -> dict[str, Any]:
    """Name -> dtype, shape and place of each tensor: the file begins with the header's length and the header."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        return {name: entry for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{model.key}={model.path}", f"its {path.name} is no safetensors file ({error})") from None


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


_SERVER_KEYS = (
    "dtype",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_chunked_prefill",
    "enable_prefix_caching",
    "enforce_eager",
    "gpu_memory_utilization",
    "logprobs_mode",
)
"""Settings that verl's server hands to vLLM under the same name."""


def engine_arguments(node: DictConfig) -> dict[str, Any]:
    """vLLM's own arguments as verl's server hands them on: of a node with the keys of ``actor_rollout_ref.rollout``."""
    given: Any = OmegaConf.to_container(node, resolve=True)
    found = {key: given[key] for key in _SERVER_KEYS if given.get(key) is not None}
    more = (given.get("engine_kwargs") or {}).get("vllm") or {}
    return {"tensor_parallel_size": given["tensor_model_parallel_size"], **found, **more}
