"""What a user may mistype: one line that names the value, the rule and the fix, exit code 2, nothing written.

Each case is a command line, run through the same entry point as the console command.
"""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from prefix_opd import cli, preflight
from prefix_opd.compose import compose
from prefix_opd.tiny import shipped_models
from prefix_opd.tiny.data import write_data

TRAIN = ["train", "experiment=tiny/schedule"]
SCHEDULE = "prefix_opd.schedule"
TEACHER = "distillation.teacher_models.teacher_model"

CASES = [
    # a key or an experiment that does not exist
    (["train", "experiment=tiny/schedul"], "experiment=tiny/schedul: does not exist; did you mean tiny/schedule?"),
    ([*TRAIN, "prefix_opd.schedule.incremnt=8"], "did you mean prefix_opd.schedule.increment?"),
    ([*TRAIN, "trainer.total_training_step=8"], "did you mean trainer.total_training_steps?"),
    ([*TRAIN, "actor_rollout_ref.actor.optim.lrr=1"], "did you mean actor_rollout_ref.actor.optim.lr?"),
    ([*TRAIN, "platform=tpu"], "platform/tpu: is no config of that name"),
    ([*TRAIN, "schedule"], "schedule: is not a Hydra override; write key=value"),
    ([*TRAIN, "prefix_opd.schedule.steps=[[1,2]"], "is not a Hydra override"),
    ([*TRAIN, "+prefix_opd.schedul.name=x"], "prefix_opd.schedul: is not a setting"),
    # the schedule
    ([*TRAIN, f"{SCHEDULE}.name=liner"], "did you mean 'linear'?"),
    ([*TRAIN, f"{SCHEDULE}.start=0"], f"{SCHEDULE}.start=0: input should be greater than or equal to 1"),
    ([*TRAIN, f"{SCHEDULE}.increment=-4"], f"{SCHEDULE}.increment=-4: input should be greater"),
    ([*TRAIN, f"{SCHEDULE}.increment=1.5"], f"{SCHEDULE}.increment=1.5: must be a whole number"),
    ([*TRAIN, f"{SCHEDULE}.maximum=0"], f"{SCHEDULE}.maximum=0: input should be greater"),
    ([*TRAIN, f"{SCHEDULE}.maximum=193"], "maximum=193: exceeds data.max_response_length=192"),
    ([*TRAIN, f"{SCHEDULE}.name=constant", f"{SCHEDULE}.length=256"], "length=256: exceeds data.max_response_length"),
    ([*TRAIN, f"{SCHEDULE}.name=steps"], "steps=[] is empty"),
    ([*TRAIN, f"{SCHEDULE}.name=steps", f"{SCHEDULE}.steps=[[5,8],[1,4]]"], "they must start at 1 and rise"),
    ([*TRAIN, f"{SCHEDULE}.name=steps", f"{SCHEDULE}.steps=[[1,999]]"], "steps=999: exceeds"),
    # room in the engines
    ([*TRAIN, "actor_rollout_ref.rollout.max_model_len=320"], "has no room for prompt + response + 1 = 128 + 192 + 1"),
    ([*TRAIN, f"{TEACHER}.inference.max_model_len=320"], f"{TEACHER}.inference.max_model_len=320: has no room"),
    (
        [*TRAIN, "data.max_response_length=2000", "actor_rollout_ref.rollout.max_model_len=null"]
        + [f"{TEACHER}.inference.max_model_len=null"],
        "its context of 1024 tokens has no room for prompt + response + 1 = 2129",
    ),
    ([*TRAIN, "data.max_prompt_length=0"], "data.max_prompt_length=0: must be a whole number of at least 1"),
    # models
    ([*TRAIN, "actor_rollout_ref.model.path=/no/such/model"], "actor_rollout_ref.model.path=/no/such/model: does not"),
    ([*TRAIN, f"{TEACHER}.model_path=./nowhere"], f"{TEACHER}.model_path=./nowhere: does not exist"),
    ([*TRAIN, "actor_rollout_ref.model.path=null"], "actor_rollout_ref.model.path: is not set"),
    ([*TRAIN, f"{TEACHER}.model_path={{other}}"], "its vocabulary differs from the teacher's at id 97: "),
    ([*TRAIN, f"{TEACHER}.model_path={{tmp}}"], "is no model folder: it has no config.json"),
    # data
    ([*TRAIN, "data.train_files=/no/such.parquet"], "data.train_files=/no/such.parquet: does not exist"),
    ([*TRAIN, "data.val_files=null"], "data.val_files: is not set"),
    ([*TRAIN, "data.train_files={no_column}"], "lacks verl's column 'reward_model'"),
    ([*TRAIN, "data.train_files={text_prompt}"], "its column 'prompt' is string, not a list of role and content"),
    ([*TRAIN, "data.train_files={no_parquet}"], "is no parquet file"),
    ([*TRAIN, "data.train_files={few}"], "data.train_batch_size=16: exceeds the 3 rows"),
    # sampling
    ([*TRAIN, "actor_rollout_ref.rollout.temperature=0.7"], "temperature=0.7: must be 1.0: the reward estimates"),
    ([*TRAIN, "actor_rollout_ref.rollout.top_p=0.9"], "top_p=0.9: must be 1.0"),
    ([*TRAIN, "actor_rollout_ref.rollout.top_k=20"], "set prefix_opd.allow_any_temperature=true"),
    ([*TRAIN, "actor_rollout_ref.rollout.calculate_log_probs=false"], "calculate_log_probs=False: must be true"),
    # batches that do not divide
    ([*TRAIN, "actor_rollout_ref.rollout.n=0"], "actor_rollout_ref.rollout.n=0: must be a whole number"),
    ([*TRAIN, "data.train_batch_size=2.5"], "data.train_batch_size=2.5: must be a whole number"),
    ([*TRAIN, "actor_rollout_ref.actor.ppo_mini_batch_size=5"], "ppo_mini_batch_size=5: must divide"),
    ([*TRAIN, "trainer.n_gpus_per_node=3"], "do not divide among 3 ranks"),
    ([*TRAIN, "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=300"], "holds no sequence of prompt + response = 320"),
    # settings that another loss would not read
    (["train", "experiment=tiny/forward_kl_32", "prefix_opd.advantage.clamp=5"], "prefix_opd.advantage.clamp: is read"),
    # the forced ending, the loss, the end tokens
    ([*TRAIN, 'prefix_opd.prompt.ending="<thought>"'], "the tokenizer splits it into"),
    ([*TRAIN, "prefix_opd.advantage.clamp=-1"], "prefix_opd.advantage.clamp=-1: input should be greater than 0"),
    ([*TRAIN, "prefix_opd.advantage.student_log_prob=samplr"], "input should be 'sampler', 'current' or 'recomputed'"),
    ([*TRAIN, "prefix_opd.rollout.stop=[]"], "names no end token: rollouts never end"),
    ([*TRAIN, "prefix_opd.weighting.name=window"], "window [0, None) is empty"),
    # folders
    ([*TRAIN, "trainer.default_local_dir={other_run}"], "holds another run (prefix_opd.schedule.increment=99 there"),
    (["summary", "{tmp}"], "is no run's folder: it has no config.yaml"),
    (["export", "{tmp}"], "is no run's folder"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Broken files and folders that the cases name."""
    root = tmp_path_factory.mktemp("broken")
    good = pq.read_table(write_data(root / "data", train=40, test=3)["test"])
    found = {"tmp": root / "empty", "few": root / "few.parquet", "no_parquet": root / "text.parquet"}
    found["tmp"].mkdir()
    pq.write_table(good, found["few"])
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

    found["other_run"] = root / "other_run"
    found["other_run"].mkdir()
    (found["other_run"] / "metrics.jsonl").write_text('{"step": 1}\n')
    config = compose(["experiment=tiny/schedule", "prefix_opd.schedule.increment=99"])
    OmegaConf.save(config, found["other_run"] / "config.yaml", resolve=True)
    return {name: str(path) for name, path in found.items()}


@pytest.mark.parametrize(("arguments", "line"), CASES, ids=[" ".join(case[0][1:])[-70:] for case in CASES])
def test_one_line_and_exit_code_2(arguments, line, places, monkeypatch, capsys, tmp_path):
    arguments = [argument.format(**places) if "{" in argument else argument for argument in arguments]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prefix-opd", *arguments])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    told = capsys.readouterr()
    assert leaving.value.code == 2, told
    assert told.err.startswith("error: ") and told.err.count("\n") == 1, told.err
    assert line in told.err
    assert not told.out
    assert not list(tmp_path.iterdir()), "something was written"


def test_another_verl_is_refused(monkeypatch):
    monkeypatch.setattr(preflight.importlib.metadata, "version", lambda name: "0.8.0")
    with pytest.raises(Exception, match=r"verl==0.8.0: prefix-opd extends 0.9.1; pip install verl==0.9.1"):
        preflight.check_verl_version()


def test_what_is_right_passes(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prefix-opd", "train", "--check", "experiment=tiny/schedule"])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 0 and "nothing wrong found" in capsys.readouterr().out
    monkeypatch.setattr(
        "sys.argv",
        [
            "prefix-opd",
            "train",
            "--check",
            "experiment=tiny/full",
            "actor_rollout_ref.rollout.temperature=0.7",
            "prefix_opd.allow_any_temperature=true",
        ],
    )
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 0
