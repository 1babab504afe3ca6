"""Bad arguments of `prefix-opd evaluate`: rows of the table in test_bad_input.py."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from adapters import write_adapter
from omegaconf import OmegaConf

from prefix_opd.config.compose import compose
from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.data import write_data

STUDENT = str(shipped_models()["student"])
KNOWN = "known: math500, aime2024, aime2025, gpqa-main, gpqa-diamond, mmlu-pro, tiny, cells, or a parquet file"
ROLLOUT = "actor_rollout_ref.rollout"
STORAGE = "transfer_queue.backend.SimpleStorage.total_storage_size"

CASES = [
    # benchmarks
    (["evaluate", STUDENT, "math5000"], f"benchmark 'math5000': is not known; {KNOWN}"),
    (["evaluate", STUDENT, "openthoughts3"], "benchmark 'openthoughts3': is not known"),
    (
        ["evaluate", STUDENT, "math500"],
        "benchmark math500: is not prepared: data/math500/test.parquet does not exist; run `prefix-opd",
    ),
    (["evaluate", STUDENT, "math500", "--data", "{root}"], "{root}/math500/test.parquet does not exist"),
    (["evaluate", STUDENT], "--data=data: contains no prepared benchmark; name one of math500"),
    (["evaluate", STUDENT, "/no/such.parquet"], "benchmark /no/such.parquet: does not exist"),
    (["evaluate", STUDENT, "{no_parquet}"], "is not a parquet file"),
    (["evaluate", STUDENT, "{no_column}"], "lacks verl's column 'reward_model' (it has data_source, prompt"),
    (["evaluate", STUDENT, "{text_prompt}"], "row 0, column 'prompt': must be a list of role and content, not str"),
    (["evaluate", STUDENT, "{no_rows}"], "has no rows"),
    (["evaluate", STUDENT, "{text_reward}"], "its column 'reward_model' is string, not a group with ground_truth"),
    (["evaluate", STUDENT, "{text_extra}"], "its column 'extra_info' is string, not a group of values; leave"),
    (["evaluate", STUDENT, "{no_truth}"], "its column 'reward_model' lacks ground_truth (it has style); rename"),
    (["evaluate", STUDENT, "tiny", "tiny"], "tiny: is given twice"),
    (["evaluate", STUDENT, "tiny", "cells"], "tiny: has another answer length; evaluate it separately"),
    (["evaluate", STUDENT, "tiny", "{good}"], "tiny: has another answer length; evaluate it separately"),
    # numbers
    (["evaluate", STUDENT, "tiny", "--k", "0"], "--k=0: must be a whole number of at least 1"),
    (["evaluate", STUDENT, "tiny", "--limit", "0"], "--limit=0: must be"),
    (["evaluate", STUDENT, "tiny", "--chunk", "0"], "--chunk=0: must be"),
    (["evaluate", STUDENT, "tiny", "--gpus", "0"], "--gpus=0: must be"),
    (["evaluate", STUDENT, "tiny", "--seed", "-1"], "--seed=-1: must be a whole number of at least 0"),
    (["evaluate", STUDENT, "tiny", "--seed", str(2**32)], "--seed=4294967296: must be a whole number of at least 0 an"),
    (["evaluate", STUDENT, "tiny", "--max-tokens", "0"], "--max-tokens=0: must be"),
    (
        ["evaluate", STUDENT, "tiny", "--max-tokens", "2000"],
        "--max-tokens=2000: exceeds the model's context of 1024 tokens",
    ),
    (["evaluate", STUDENT, "tiny", "--temperature", "-1"], "--temperature=-1: must lie between 0 and 10"),
    (
        ["evaluate", STUDENT, "tiny", "--temperature", "0"],
        "--temperature=0: would give 4 equal samples of each problem; add --k 1",
    ),
    (["evaluate", STUDENT, "tiny", "--top-p", "0"], "--top-p=0: must be above 0 and at most 1"),
    (["evaluate", STUDENT, "tiny", "platform=gpu", "--gpus", "2"], "nvidia-smi shows 0 GPUs: the run asks for 2"),
    # models and runs
    (["evaluate", "/no/such/model", "tiny"], "model=/no/such/model: does not exist"),
    (
        ["evaluate", "{empty}", "tiny"],
        "is neither a model (no config.json) nor a run (no config.yaml and metrics.jsonl)",
    ),
    (["evaluate", "{no_weights}", "tiny"], "has no weights"),
    (["evaluate", "{other_kind}", "tiny"], "is not a language model: its architecture is BertModel"),
    (["evaluate", "{run}", "tiny"], "has no checkpoint; set trainer.save_freq above 0"),
    (["evaluate", "{trained}", "tiny", "--step", "3"], "--step=3: has no checkpoint; choose from 2"),
    (
        ["evaluate", "{trained}", "tiny"],
        "is a checkpoint of another architecture (hidden_size=65, the run's student has 64)",
    ),
    (["evaluate", STUDENT, "tiny", "--step", "3"], "is not a run's folder; leave --step out"),
    (["evaluate", STUDENT, "tiny", "--teacher", "./nowhere"], "--teacher=./nowhere: does not exist"),
    (
        ["evaluate", "{no_base}", "tiny"],
        "no_base: names no base; add base_model_name_or_path to its adapter_config.json",
    ),
    (["evaluate", "{lost_base}", "tiny"], "model=/models/lost: does not exist"),
    (["evaluate", "{rank_pattern}", "tiny"], "is not a plain LoRA adapter: it has rank_pattern={'q_proj': 8}"),
    # overrides
    (["evaluate", STUDENT, "tiny", "--", "trainer.val_only=false"], "trainer.val_only=false: is set by the evaluation"),
    (["evaluate", STUDENT, "tiny", "--", "data.max_response_length=9"], "is set by the evaluation; use --max-tokens"),
    (
        ["evaluate", STUDENT, "tiny", "--", "trainer.nnode=2"],
        "trainer.nnode: is not a key of the config; did you mean trainer.nnodes?",
    ),
    (["evaluate", STUDENT, "tiny", "--", "trainer.logger=[consol]"], "consol is not a tracker of verl"),
    (["evaluate", STUDENT, "tiny", "--", f"{ROLLOUT}.max_num_seqs=9000"], "exceeds max_num_batched_tokens=8192"),
    (["evaluate", STUDENT, "tiny", "--", f"{ROLLOUT}.max_model_len=5"], "has no room for prompt + response = 18 + 192"),
    (["evaluate", STUDENT, "tiny", "--", f"{ROLLOUT}.max_model_len=5000"], "tokens, or exceeds the model's context"),
    (["evaluate", STUDENT, "tiny", "--", "ray_kwargs.ray_init.num_cpus=1"], "num_cpus=1: the run asks Ray for "),
    (["evaluate", STUDENT, "tiny", "--", "trainer.n_gpus_per_node=7"], "ray_init.num_gpus=2: the run asks Ray for 7"),
    (["evaluate", STUDENT, "tiny", "--", "prefix_opd.rollout.stop=[9999]"], "9999 is not a token of the vocabulary of"),
    (["evaluate", STUDENT, "tiny", "--", "data.prompt_key=nope"], "data.prompt_key=nope: is set by the evaluation"),
    (["evaluate", STUDENT, "tiny", "--", f"{STORAGE}=99"], f"{STORAGE}=99: does not hold the 1024 answers of a batch"),
    (["evaluate", STUDENT, "tiny", "--", "layout=moon"], "layout=moon: does not exist; known: "),
    # folders
    (["evaluate", STUDENT, "tiny", "--out", "{good}"], "is a file; name a folder"),
    (
        ["evaluate", STUDENT, "tiny", "--out", "{run}"],
        "contains something else (config.yaml); choose another folder with --out",
    ),
    (["evaluate", STUDENT, "tiny", "--out", "{unread}"], "evaluation.json: is not of an evaluation; choose another"),
    (
        ["evaluate", STUDENT, "{listed}", "--max-tokens", "9", "--", "platform=cpu"],
        "listed/manifest.json: is not JSON (Expecting value: ",
    ),
    (["evaluate", STUDENT, "tiny", "--out", "{other}"], "contains another evaluation (model=another there, "),
]


def write_places(root: Path) -> dict[str, str]:
    """Write the broken files and folders that the cases use."""
    root.mkdir()
    good = write_data(root / "data", train=1, test=3)["test"]
    table = pq.read_table(good)
    found = {name: root / name for name in ("empty", "no_weights", "other_kind", "run", "trained", "other")}
    found |= {name: root / f"{name}.parquet" for name in ("no_parquet", "no_column", "text_prompt", "no_rows")}
    found |= {"root": root, "good": good}
    found["no_parquet"].write_text("not a parquet file at all")
    pq.write_table(table.drop_columns(["reward_model"]), found["no_column"])
    position = table.schema.get_field_index("prompt")
    pq.write_table(table.set_column(position, "prompt", pa.array(["a"] * table.num_rows)), found["text_prompt"])
    pq.write_table(table.slice(0, 0), found["no_rows"])
    columns = {"text_reward": ("reward_model", "{}"), "text_extra": ("extra_info", "{}")}
    for name, (column, cell) in (columns | {"no_truth": ("reward_model", {"style": "rule"})}).items():
        found[name], position = root / f"{name}.parquet", table.schema.get_field_index(column)
        pq.write_table(table.set_column(position, column, pa.array([cell] * table.num_rows)), found[name])

    found["empty"].mkdir()
    shutil.copytree(STUDENT, found["no_weights"])
    (found["no_weights"] / "model.safetensors").unlink()
    shutil.copytree(STUDENT, found["other_kind"])
    change(found["other_kind"] / "config.json", architectures=["BertModel"])

    for name in ("run", "trained"):
        found[name].mkdir()
        (found[name] / "metrics.jsonl").write_text('{"step": 1}\n')
        OmegaConf.save(compose(["experiment=tiny/schedule"]), found[name] / "config.yaml", resolve=True)
    (found["trained"] / "latest_checkpointed_iteration.txt").write_text("2")
    saved = found["trained"] / "global_step_2" / "actor" / "huggingface"
    saved.mkdir(parents=True)
    shutil.copy(f"{STUDENT}/config.json", saved)
    change(saved / "config.json", hidden_size=65)

    for name, base in {"no_base": "", "lost_base": "/models/lost"}.items():
        found[name] = write_adapter(root / name, base_model_name_or_path=base)
    found["rank_pattern"] = write_adapter(root / "rank_pattern", rank_pattern={"q_proj": 8})

    found["unread"] = root / "unread"
    found["unread"].mkdir()
    (found["unread"] / "evaluation.json").write_text("{}")
    found["listed"] = root / "listed" / "test.parquet"
    found["listed"].parent.mkdir()
    shutil.copy(good, found["listed"])
    (found["listed"].parent / "manifest.json").write_text("nope")
    found["other"].mkdir()
    (found["other"] / "evaluation.json").write_text('{"same": {"model": "another"}, "benchmarks": {}}')
    return {name: str(path) for name, path in found.items()}


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
