"""The broken files and folders that the rows of bad input name."""

import contextlib
import json
import shutil

import bad_evaluations
import pyarrow as pa
import pyarrow.parquet as pq
from adapters import write_adapter
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from written_runs import ACCURACY, SIGNAL, binned, update, write_run

from prefix_opd.checks import preflight
from prefix_opd.config.compose import compose
from prefix_opd.config.models import INDEX, WHOLE
from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.data import write_data
from prefix_opd.run.checkpoints import MANIFEST_FILE
from prefix_opd.run.folder import hold

CONFIGS = {
    "null_layers": {"num_hidden_layers": None},
    "quantised": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "unknown_kind": {"model_type": "moon"},
    "classifier": {"architectures": ["Qwen3ForSequenceClassification"]},
    "narrow": {"intermediate_size": 96},
    "more_rows": {"vocab_size": 330},
    "experts": {
        **{"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"]},
        **{"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48},
    },
}
"""Folder of a model -> what is changed in its config.json."""


@contextlib.contextmanager
def written(root):
    """The broken files and folders that the cases use."""
    good = pq.read_table(write_data(root / "data", train=40, test=3)["test"])
    found = {"tmp": root / "empty", "few": root / "few.parquet", "no_parquet": root / "text.parquet"}
    found["tmp"].mkdir()
    pq.write_table(good, found["few"])
    found["few40"] = root / "data" / "train.parquet"
    found["no_parquet"].write_text("not a parquet file at all")
    found["no_column"] = root / "no_column.parquet"
    pq.write_table(good.drop_columns(["reward_model"]), found["no_column"])
    found["text_prompt"] = root / "text_prompt.parquet"
    text = good.set_column(good.schema.get_field_index("prompt"), "prompt", pa.array(["a"] * good.num_rows))
    pq.write_table(text, found["text_prompt"])

    found["other"] = root / "other_vocabulary"
    shutil.copytree(shipped_models()["teacher"], found["other"])
    path = found["other"] / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = (next(token for token, index in vocabulary.items() if index == i) for i in (97, 98))
    vocabulary[first], vocabulary[second] = 98, 97
    path.write_text(json.dumps(tokenizer))

    found |= _bad_rows(root, good)
    copies = ("own_code", "pickles", "broken_config", "lost_shard", "other_name", "no_padding", "end_below_zero")
    for name in (*copies, *CONFIGS):
        found[name] = shutil.copytree(shipped_models()["student"], root / name)
    path = found["own_code"] / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoTokenizer": ["mine.T", None]}}))
    (found["pickles"] / "model.safetensors").rename(found["pickles"] / "pytorch_model.bin")
    (found["broken_config"] / "config.json").write_text('{"vocab_size": ')

    found["adapter"] = write_adapter(root / "adapter")
    found["other_base"] = write_adapter(root / "other_base", base_model_name_or_path="/models/Other")
    found["other_rank"] = write_adapter(root / "other_rank", rank=2)
    found["other_modules"] = write_adapter(root / "other_modules", modules=["v_proj", "q_proj"])
    found["dora"] = write_adapter(root / "dora", use_dora=True)
    found["other_sizes"] = write_adapter(root / "other_sizes", rank=3, r=4)
    found["fused"] = shutil.copytree(shipped_models()["student"], root / "fused")
    weights = load_file(found["fused"] / "model.safetensors")
    fused = {name.replace("q_proj", "qkv_proj"): one for name, one in weights.items() if "k_proj" not in name}
    fused = {name: one for name, one in fused.items() if "v_proj" not in name or "qkv" in name}
    save_file(fused, found["fused"] / "model.safetensors")

    for name, changed in CONFIGS.items():
        path = found[name] / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    (found["lost_shard"] / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": "model-2.safetensors"}}))
    (found["other_name"] / WHOLE).rename(found["other_name"] / "weights.safetensors")
    (found["end_below_zero"] / "generation_config.json").write_text('{"eos_token_id": -1}')
    path = found["no_padding"] / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": None, "eos_token": None}))

    found["other_run"] = root / "other_run"
    found["other_run"].mkdir()
    (found["other_run"] / "metrics.jsonl").write_text('{"step": 1}\n')
    config = compose(["experiment=tiny/schedule", "prefix_opd.schedule.increment=99"])
    OmegaConf.save(config, found["other_run"] / "config.yaml", resolve=True)
    found["broken_line"] = shutil.copytree(found["other_run"], root / "broken_line")
    (found["broken_line"] / "metrics.jsonl").write_text('{"step": 1}\nnope\n')
    for name, text in {"odd_line": "[1]\n", "no_number": '{"step": 1, "val-core/x/acc/mean@1": "x"}\n'}.items():
        found[name] = shutil.copytree(found["other_run"], root / name)
        (found[name] / "metrics.jsonl").write_text(text)
    found |= {name: root / f"{name}.json" for name in ("odd_flop", "odd_interval")}
    found["odd_flop"].write_text('{"flop": "x", "benchmarks": {"math500": 0.5}}')
    found["odd_interval"].write_text('{"benchmarks": {"math500": {"mean": 0.5, "interval": [0.1]}}}')
    found["cut"] = shutil.copytree(found["other_run"], root / "cut")
    (found["cut"] / "global_step_2").mkdir()
    found["odd_manifest"] = shutil.copytree(found["cut"], root / "odd_manifest")
    (found["odd_manifest"] / "global_step_2" / MANIFEST_FILE).write_text('{"actor/model.pt": 5}')
    (found["cut"] / "global_step_2" / MANIFEST_FILE).write_text('{"actor/model.pt": [5, 1, 16]}')
    preflight.check(config)  # imports what a case would else be charged with

    step = [update(1, 1e9, **binned(SIGNAL), **{ACCURACY: 0.5})]
    found["without_metrics"] = write_run(root / "without_metrics", [])
    found["old_version"] = write_run(root / "old_version", [{"step": 1, "prefix_opd/prefix_length": 1}])
    found["finished"] = write_run(root / "finished", step)
    found["many_cells"], found["deep"] = root / "many_cells.csv", root / "deep.json"
    found["many_cells"].write_text("problem,answer\n1,2,3\n")
    found["deep"].write_text("[" * 20_000)
    found["odd_event"] = write_run(root / "odd_event", step)
    (found["odd_event"] / "events.jsonl").write_text('{"step": 1}\n')
    found["folders"] = write_run(root / "folders", step)
    for name in ("report.html", "analysis/schedule.json"):
        (found["folders"] / name).mkdir(parents=True)
    found["never_validated"] = write_run(root / "never_validated", [update(1, 1e9)])
    found["other_task"] = write_run(root / "other_task", step, **{"data.max_response_length": 96})
    found["being_written"] = write_run(root / "being_written", step)
    of_evaluations = bad_evaluations.write_places(root / "evaluations")
    with hold(found["being_written"]):
        ours = {name: str(path) for name, path in found.items()}
        yield {"ours": ours, "evaluate": of_evaluations}


def _bad_rows(root, good):
    """Files with the right columns and one defect in a row."""
    where = good.schema.get_field_index("prompt")
    kind, asked = good.schema.field("prompt").type, good["prompt"].to_pylist()
    columns = {
        "list_of_text": pa.array([["a"]] * good.num_rows),
        "null_content": pa.array([asked[0], [{"role": "user", "content": None}], asked[2]], kind),
        "no_messages": pa.array([asked[0], asked[1], []], kind),
    }
    found = {name: root / f"{name}.parquet" for name in columns}
    for name, column in columns.items():
        pq.write_table(good.set_column(where, "prompt", column), found[name])
    lines = {
        "nonsense_lines": ("nonsense.jsonl", json.dumps(good.to_pylist()[0]) + "\nnot json at all\n"),
        "number_lines": ("numbers.jsonl", "1\n2\n"),
        "bare_lines": ("bare.jsonl", '{"question": "1+1?"}\n'),
    }
    for name, (file, text) in lines.items():
        found[name] = root / file
        found[name].write_text(text)
    return found
