"""One line, exit code 2, nothing written: through the same entry point as the console command."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from prefix_opd import cli
from prefix_opd.compose import compose
from prefix_opd.tiny import shipped_models
from prefix_opd.tiny.data import write_data

STUDENT = str(shipped_models()["student"])
KNOWN = "known: math500, aime2024, aime2025, gpqa-main, gpqa-diamond, mmlu-pro, tiny, or a parquet file"

CASES = [
    # benchmarks
    ([STUDENT, "math5000"], f"benchmark 'math5000': is not known; {KNOWN}"),
    ([STUDENT, "openthoughts3"], "benchmark 'openthoughts3': is not known"),
    (
        [STUDENT, "math500"],
        "benchmark math500: is not prepared: data/math500/test.parquet does not exist; run `prefix-opd",
    ),
    ([STUDENT, "math500", "--data", "{root}"], "{root}/math500/test.parquet does not exist"),
    ([STUDENT], "--data=data: holds no prepared benchmark; name one of math500"),
    ([STUDENT, "/no/such.parquet"], "benchmark /no/such.parquet: does not exist"),
    ([STUDENT, "{no_parquet}"], "is no parquet file"),
    ([STUDENT, "{no_column}"], "lacks verl's column 'reward_model' (it has data_source, prompt"),
    ([STUDENT, "{text_prompt}"], "its column 'prompt' is string, not a list of role and content"),
    ([STUDENT, "{no_rows}"], "has no rows"),
    ([STUDENT, "tiny", "tiny"], "tiny: is named twice"),
    ([STUDENT, "tiny", "{good}"], "tiny: has answers of its own length; evaluate it by itself"),
    # numbers
    ([STUDENT, "tiny", "--k", "0"], "--k=0: must be a whole number of at least 1"),
    ([STUDENT, "tiny", "--limit", "0"], "--limit=0: must be"),
    ([STUDENT, "tiny", "--chunk", "0"], "--chunk=0: must be"),
    ([STUDENT, "tiny", "--gpus", "0"], "--gpus=0: must be"),
    ([STUDENT, "tiny", "--seed", "-1"], "--seed=-1: must be a whole number of at least 0"),
    ([STUDENT, "tiny", "--max-tokens", "0"], "--max-tokens=0: must be"),
    ([STUDENT, "tiny", "--max-tokens", "2000"], "--max-tokens=2000: exceeds the model's context of 1024 tokens"),
    ([STUDENT, "tiny", "--temperature", "-1"], "--temperature=-1: must lie between 0 and 10"),
    ([STUDENT, "tiny", "--temperature", "0"], "--temperature=0: would give 4 equal samples of each problem; add --k 1"),
    ([STUDENT, "tiny", "--top-p", "0"], "--top-p=0: must be above 0 and at most 1"),
    # models and runs
    (["/no/such/model", "tiny"], "model=/no/such/model: does not exist"),
    (["{empty}", "tiny"], "is neither a model (no config.json) nor a run (no config.yaml and metrics.jsonl)"),
    (["{no_weights}", "tiny"], "has no weights"),
    (["{other_kind}", "tiny"], "is no language model: its architecture is BertModel"),
    (["{run}", "tiny"], "has no checkpoint; set trainer.save_freq above 0"),
    (["{trained}", "tiny", "--step", "3"], "--step=3: there is no such checkpoint; known: 2"),
    (["{trained}", "tiny"], "is a checkpoint of another architecture (hidden_size=65, the run's student has 64)"),
    ([STUDENT, "tiny", "--step", "3"], "is no run's folder; leave --step out"),
    ([STUDENT, "tiny", "--teacher", "./nowhere"], "--teacher=./nowhere: does not exist"),
    # overrides
    ([STUDENT, "tiny", "--", "trainer.val_only=false"], "trainer.val_only=false: is set by the evaluation"),
    ([STUDENT, "tiny", "--", "data.max_response_length=9"], "is set by the evaluation; use --max-tokens"),
    (
        [STUDENT, "tiny", "--", "trainer.nnode=2"],
        "trainer.nnode: is not a key of the config; did you mean trainer.nnodes?",
    ),
    ([STUDENT, "tiny", "--", "layout=moon"], "layout/moon: is no config of that name"),
    # folders
    ([STUDENT, "tiny", "--out", "{good}"], "is a file; name a folder"),
    ([STUDENT, "tiny", "--out", "{run}"], "holds something else (config.yaml); choose another folder with --out"),
    ([STUDENT, "tiny", "--out", "{other}"], "holds another evaluation (model=another there, "),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("broken")
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

    found["other"].mkdir()
    (found["other"] / "evaluation.json").write_text('{"same": {"model": "another"}, "benchmarks": {}}')
    return {name: str(path) for name, path in found.items()}


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(("arguments", "line"), CASES, ids=[" ".join(case[0][1:])[-60:] or "none" for case in CASES])
def test_one_line_and_exit_code_2(arguments, line, places, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prefix-opd", "evaluate", *(word.format(**places) for word in arguments)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    told = capsys.readouterr()
    assert leaving.value.code == 2, told
    assert told.err.startswith("error: ") and told.err.count("\n") == 1, told.err
    assert line.format(**places) in told.err
    assert not told.out and not list(tmp_path.iterdir()), "something was written"


def test_what_is_right_passes_and_starts_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prefix-opd", "evaluate", STUDENT, "tiny", "--limit", "5", "--k", "3", "--check"])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    told = capsys.readouterr()
    assert leaving.value.code == 0 and "5 problems, 15 responses, 0 problems are done" in told.err
    assert not list(tmp_path.iterdir())
