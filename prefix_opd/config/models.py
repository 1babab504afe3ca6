"""What a run must know of a model before it starts: its config, its tokenizer, the tokens that end its answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError, one_line
from prefix_opd.base.files import read_object
from prefix_opd.config.decoder import decoder_config, shape_of
from prefix_opd.config.keys import TEMPLATE_KEY
from prefix_opd.method.flops import ModelShape

SMALL_FILE = 4 << 20
"""Bytes. A JSON file up to this size is searched for Python code that transformers would run (``auto_map``). Only a
vocabulary is larger: the largest tokenizer_config.json of public models has some 200 KB."""
HUB_SECONDS = 10.0
PLAIN_DECODERS = ("llama", "mistral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
"""Model types with plain softmax attention, whose logits are the output of the head as it is."""
WHOLE, INDEX, ADAPTER_FILE = "model.safetensors", "model.safetensors.index.json", "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Model:
    """A Hugging Face model by its small files alone: no weight is read."""

    key: str
    """The config key that names it, for messages."""
    path: str
    """As the user gave it: a folder or a hub id."""
    trust_remote_code: bool = False

    @property
    def what(self) -> str:
        """Key and path, as messages name the model."""
        return f"{self.key}={self.path}"

    @property
    def local(self) -> Path:
        """The folder of this path, which does not exist if the path is a hub id."""
        return Path(self.path).expanduser()

    @property
    def place(self) -> str:
        """The folder or the hub id that a loader takes."""
        return str(self.local) if self.local.is_dir() else self.path

    @cached_property
    def folder(self) -> Path:
        """The local folder, fetched without weights if ``path`` is a hub id."""
        found = self.local if self.local.is_dir() else self._fetched()
        if (found / ADAPTER_FILE).exists():  # transformers would put it on its base, and vLLM not
            raise UserError(self.what, f"is an adapter ({ADAPTER_FILE})", "name its base, or merge the adapter into it")
        if not (found / "config.json").exists():
            raise UserError(self.what, "is not a model folder: it has no config.json")
        return found

    def _fetched(self) -> Path:
        if self.path.startswith(("/", ".", "~")) or self.path.count("/") != 1:
            raise UserError(self.what, "does not exist", "give a model folder or a hub id")
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.path, allow_patterns=["*.json", "*.txt", "*.jinja", "*.model"]))
        except Exception as error:
            rule = f"is not a folder here and the hub did not give it ({type(error).__name__})"
            raise UserError(
                self.what, rule, "give a model folder, or check the name, the network and HF_TOKEN"
            ) from None

    @cached_property
    def config(self) -> dict[str, Any]:
        return read_json(self, self.folder / "config.json")

    def check_own_code(self, trust: str = "set actor_rollout_ref.model.trust_remote_code=true") -> None:
        """Refuse a model that brings Python of its own, unless it is trusted; ``trust`` says how. Raises UserError.

        Needed before verl: its reward workers load the student's tokenizer with ``trust_remote_code=True`` whatever
        the config says (verl/experimental/reward_loop/reward_loop.py:_init_reward_fn).
        """
        if self.trust_remote_code:
            return
        for path in sorted(self.folder.glob("*.json")):
            if path.stat().st_size <= SMALL_FILE and _names_code(read_json(self, path)):
                rule, fix = f"its {path.name} names code of its own (auto_map)", f"read that code, then {trust}"
                raise UserError(self.what, rule, f"{fix}; or remove the entry")

    def check_weights(self, by_vllm_alone: bool = False) -> None:
        """Refuse weights that are pickles alone: reading one may run code. Raises UserError.

        For a hub id the hub's list of files is read; without a network this check is skipped.

        Args:
            by_vllm_alone: vLLM loads the model, which takes safetensors of any name, and transformers does not.
        """
        names = sorted(path.name for path in self.local.iterdir()) if self.local.is_dir() else self._files_on_hub()
        if names is None:
            return
        if self.local.is_dir() and INDEX in names:
            shards = read_json(self, self.local / INDEX).get("weight_map")
            named = set(map(str, shards.values())) if isinstance(shards, dict) else set()
            if not named and WHOLE not in names:
                raise UserError(self.what, f"its {INDEX} names no file of weights", "copy the whole folder")
            if missing := sorted(named - set(names)):
                raise UserError(self.what, f"lacks {missing[0]}, which its {INDEX} names", "copy the whole folder")
        if found := next((name for name in names if Path(name).suffix == ".safetensors"), None):
            if not by_vllm_alone and not {WHOLE, INDEX} & set(names):
                rule = f"has weights in {found}, and transformers reads {WHOLE} or what {INDEX} names"
                raise UserError(self.what, rule, "rename them, or save the model by save_pretrained")
            return
        if pickle := next((name for name in names if Path(name).suffix in PICKLES), None):
            fix = "save them as safetensors: model.save_pretrained(FOLDER)"
            raise UserError(self.what, f"has only pickles as weights ({pickle})", fix)
        raise UserError(self.what, "has no weights (*.safetensors)", "name a folder that has some")

    def _files_on_hub(self) -> list[str] | None:
        """Names of the hub's files of this model; None where it cannot be asked."""
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
        files = sorted(self.local.glob("*.safetensors"))
        return {name: shape for path in files for name, shape in _shapes(self, path).items()}

    @property
    def embedding_rows(self) -> int | None:
        """Rows of the embedding; None where the weights are not at hand."""
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
        return decoder_config(self.what, self.config)

    @cached_property
    def shape(self) -> ModelShape:
        return shape_of(self.what, self.decoder)

    @property
    def context(self) -> int | None:
        """Positions that vLLM gives the model; None if its config does not say.

        Those that it was made for times the factor of its rope, where these do not hold it already
        (vllm/config/model.py: _get_and_verify_max_len).
        """
        made, ropes = self.decoder.get("max_position_embeddings"), self.decoder.get("rope_parameters")
        ropes = ropes if isinstance(ropes, dict) and "gemma3" not in str(self.decoder.get("model_type")) else {}
        for rope in [rope for rope in ropes.values() if isinstance(rope, dict)] or [ropes]:  # of each kind of layer
            kind, factor = rope.get("rope_type"), rope.get("factor")
            if made and isinstance(factor, int | float) and kind not in ("su", "longrope", "llama3"):
                return int(factor * (rope.get("original_max_position_embeddings", made) if kind == "yarn" else made))
        return made

    @cached_property
    def tokenizer(self):
        from transformers import AutoTokenizer

        fix = "give the tokenizer files and the config.json that belong to it"
        try:
            loaded = AutoTokenizer.from_pretrained(str(self.folder), trust_remote_code=self.trust_remote_code)
            loaded.encode("1+1=")  # reads settings that loading does not
            if isinstance(loaded.chat_template, dict):  # named ones: transformers takes this one without tools
                loaded.chat_template = loaded.chat_template.get("default")
        except Exception as error:  # each kind of tokenizer file breaks in a way of its own
            reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
            raise UserError(self.what, f"its tokenizer does not load: {reason}", fix) from None
        if len(loaded) <= len(loaded.added_tokens_decoder):  # what transformers makes of a folder without its files
            raise UserError(self.what, "its tokenizer has no tokens beside the special ones", fix)
        return loaded

    def prompt(self, messages: Sequence[Any], template: str | None = None, **variables: Any) -> Any:
        """A chat as a prompt's text, or several chats as texts; ``template`` replaces the tokenizer's own.

        Raises UserError if the template rejects a chat.
        """
        try:
            return self.tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True, tokenize=False, **variables
            )
        except Exception as error:  # a template is a program and may raise anything
            rule, fix = f"its chat template rejects a prompt of the data ({one_line(error)})", f"set {TEMPLATE_KEY}"
            raise UserError(self.what, rule, f"drop such rows, or {fix} to a template that renders them") from None

    @cached_property
    def end_token_ids(self) -> list[int]:
        """Tokens that end an answer: the tokenizer's end token and those of the generation config."""
        found = {self.tokenizer.eos_token_id}
        path = self.folder / "generation_config.json"
        if path.exists():
            named = read_json(self, path).get("eos_token_id")
            named = named if isinstance(named, list) else [named]
            if not all(token is None or (type(token) is int and token >= 0) for token in named):
                rule = f"its generation_config.json has eos_token_id={named}, not a token id or a list of them"
                raise UserError(self.what, rule, "correct it")
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
    """The JSON object in a file of a model. Raises UserError, which names the model."""
    try:
        return read_object(path)
    except UserError as error:
        raise UserError(model.what, f"its {path.name} {error.rule}") from None


def _shapes(model: Model, path: Path) -> dict[str, list[int]]:
    """Name -> shape of each tensor of a file, by its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise UserError(model.what, f"its {path.name} is not a whole safetensors file ({one_line(error)})") from None


def check_same_vocabulary(student: Model, teacher: Model) -> None:
    """Teacher and student must mean the same by a token id; raises UserError that names the first difference."""
    ours, theirs = (
        {index: token for token, index in model.tokenizer.get_vocab().items()} for model in (student, teacher)
    )
    for index in range(max(max(ours), max(theirs)) + 1):
        if ours.get(index) != theirs.get(index):
            pair = f"{ours.get(index)!r} against {theirs.get(index)!r} of {teacher.path}"
            rule = f"its vocabulary differs from the teacher's at id {index}: {pair}"
            raise UserError(student.what, rule, "choose a student and a teacher of one family")


_SERVER_KEYS = (
    *("dtype", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill"),
    *("enable_prefix_caching", "enforce_eager", "gpu_memory_utilization", "logprobs_mode"),
)
"""Settings that verl's server hands to vLLM under the same name."""


def engine_arguments(node: DictConfig) -> dict[str, Any]:
    """vLLM's own arguments as verl's server hands them on: of a node with the keys of ``actor_rollout_ref.rollout``."""
    given: Any = OmegaConf.to_container(node, resolve=True)
    found = {key: given[key] for key in _SERVER_KEYS if given.get(key) is not None}
    more = (given.get("engine_kwargs") or {}).get("vllm") or {}
    return {"tensor_parallel_size": given["tensor_model_parallel_size"], **found, **more}
