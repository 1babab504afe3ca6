"""What a user may mistype: one line that names the value, the rule and the fix, exit code 2, nothing written.

Each case is a command line, run through the same entry point as the console command.
"""

import subprocess
import sys
import time
from pathlib import Path

import bad_commands
import bad_evaluations
import bad_places
import bad_settings
import pytest

from prefix_opd import cli, launch

TRAIN = ["train", "experiment=tiny/schedule"]
TOPK = "distillation.distillation_loss.topk"
SCHEDULE = "prefix_opd.schedule"
LAG = "prefix_opd.rollout.off_policy_steps"
JSD, FORWARD_KL = (["train", f"experiment=tiny/{name}_24"] for name in ("jsd", "forward_kl"))
TEMPLATE = "actor_rollout_ref.model.custom_chat_template"
TEACHER = "distillation.teacher_models.teacher_model"

CASES = [
    # a key or an experiment that does not exist
    (["train", "experiment=tiny/schedul"], "experiment=tiny/schedul: does not exist; did you mean tiny/schedule?"),
    ([*TRAIN, "prefix_opd.schedule.incremnt=8"], "did you mean prefix_opd.schedule.increment?"),
    ([*TRAIN, "trainer.total_training_step=8"], "did you mean trainer.total_training_steps?"),
    ([*TRAIN, "actor_rollout_ref.actor.optim.lrr=1"], "did you mean actor_rollout_ref.actor.optim.lr?"),
    ([*TRAIN, "platform=tpu"], "platform=tpu: does not exist; known: cpu, gpu"),
    ([*TRAIN, "prefix_opd.schedule.start=${nope}"], f"{SCHEDULE}.start: Interpolation key 'nope' not found"),
    (
        [*TRAIN, "actor_rollout_ref.model.path=${tiny:readr}"],
        "${tiny:readr}: is not a part of the miniature; use one of",
    ),
    ([*TRAIN, "data=null"], "data=null: is a group of settings; set its keys one by one"),
    ([*TRAIN, "data=[1]"], "data=[1]: is a group of settings"),
    ([*TRAIN, "data={a:1}"], "data={a:1}: is a group of settings"),
    ([*TRAIN, "++data=5"], "++data=5: is a group of settings"),
    ([*TRAIN, "actor_rollout_ref.actor=1"], "actor_rollout_ref.actor=1: is a group of settings"),
    ([*TRAIN, "prefix_opd.schedule=[1]"], "prefix_opd.schedule=[1]: is a group of settings"),
    ([*TRAIN, "prefix_opd=3"], "prefix_opd=3: is a group of settings"),
    ([*TRAIN, "~prefix_opd"], "~prefix_opd: removes settings that a run reads; leave it out"),
    ([*TRAIN, "trainer.logger={a:1}"], "trainer.logger={a:1}: is not a group of settings; its default is ['console']"),
    ([*TRAIN, "model_engine=moon"], "model_engine=moon: is not the name of a config; leave it at its default"),
    ([*TRAIN, "rollout@actor_rollout_ref.rollout=5"], "rollout=5: moves a part of the config; leave out the @"),
    ([*TRAIN, "data.train_batch_size=8,16"], "data.train_batch_size=8,16: holds several values; start one run for"),
    ([*TRAIN, "hydra.run.dir=x"], "hydra.run.dir=x: is a setting of Hydra, which a run does not use; set trainer.def"),
    ([*TRAIN, "=5"], "=5: names no key; write key=value"),
    ([*TRAIN, "layout=[moon]"], "layout=[moon]: must be the name of one layout; known: "),
    ([*TRAIN, "+experiment=tiny/full"], "+experiment=tiny/full: adds a second experiment; leave out the +"),
    (
        ["train", "--check"],
        "actor_rollout_ref.model.path: is not set; add actor_rollout_ref.model.path=FOLDER or a hub",
    ),
    (["train", "experiment=5"], "experiment=5: must be the name of one experiment; known: "),
    (["train", "experiment=[tiny/full]"], "must be the name of one experiment; did you mean tiny/full?"),
    (
        ["train", "experiment=${nope}"],
        "experiment=${nope}: names no experiment; interpolation works only in the values",
    ),
    ([*TRAIN, "distillation.distillation_loss=null"], "distillation.distillation_loss=null: is a group of settings"),
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
    ([*TRAIN, "actor_rollout_ref.rollout.max_model_len=224"], "has no room for prompt + response + 1 = 32 + 192 + 1"),
    ([*TRAIN, f"{TEACHER}.inference.max_model_len=224"], f"{TEACHER}.inference.max_model_len=224: has no room"),
    (
        [*TRAIN, "actor_rollout_ref.rollout.max_model_len=big"],
        "max_model_len=big: must be a whole number of at least 1",
    ),
    (
        [*TRAIN, "data.max_response_length=2000", "actor_rollout_ref.rollout.max_model_len=null"]
        + [f"{TEACHER}.inference.max_model_len=null"],
        "its context of 1024 tokens has no room for prompt + response + 1 = 2033",
    ),
    ([*TRAIN, "data.max_prompt_length=0"], "data.max_prompt_length=0: must be a whole number of at least 1"),
    # models
    ([*TRAIN, "actor_rollout_ref.model.path=/no/such/model"], "actor_rollout_ref.model.path=/no/such/model: does not"),
    ([*TRAIN, f"{TEACHER}.model_path=./nowhere"], f"{TEACHER}.model_path=./nowhere: does not exist"),
    ([*TRAIN, "actor_rollout_ref.model.path=null"], "actor_rollout_ref.model.path: is not set"),
    ([*TRAIN, f"{TEACHER}.model_path={{other}}"], "its vocabulary differs from the teacher's at id 97: "),
    ([*TRAIN, f"{TEACHER}.model_path={{tmp}}"], "is not a model folder: it has no config.json"),
    # data
    ([*TRAIN, "data.train_files=/no/such.parquet"], "data.train_files=/no/such.parquet: does not exist"),
    ([*TRAIN, "data.val_files=null"], "data.val_files: is not set"),
    ([*TRAIN, "data.train_files={no_column}"], "lacks the column 'reward_model'"),
    ([*TRAIN, "data.train_files={text_prompt}"], "row 0, column 'prompt': must be a list of role and content, not str"),
    ([*TRAIN, "data.train_files={no_parquet}"], "is not a parquet file"),
    ([*TRAIN, "data.train_files={few}"], "data.train_batch_size=16: exceeds the 3 rows"),
    ([*TRAIN, "data.train_files=5"], "data.train_files=5: must be a file or a list of files"),
    ([*TRAIN, "data.train_files=[]"], "data.train_files=[]: must be a file or a list of files"),
    ([*TRAIN, "data.train_files={list_of_text}"], "row 0, column 'prompt': must be a list of role and content, not of"),
    ([*TRAIN, "data.train_files={null_content}"], "row 1, column 'prompt': its content must be text, not NoneType"),
    ([*TRAIN, "data.val_files={no_messages}"], "row 2, column 'prompt': must be a list of role and content, with at"),
    ([*TRAIN, "data.train_files={nonsense_lines}"], "nonsense.jsonl: line 2 is not JSON"),
    ([*TRAIN, "data.train_files={number_lines}"], "numbers.jsonl: line 1 is not a JSON object"),
    ([*TRAIN, "data.train_files={bare_lines}"], "lacks the column 'prompt' (it has question)"),
    (["doctor", "experiment=tiny/schedule", "data.train_files=5"], "data.train_files=5: must be a file or a list"),
    # sampling
    ([*TRAIN, "actor_rollout_ref.rollout.temperature=0.7"], "temperature=0.7: must be 1.0: the reward estimates"),
    ([*TRAIN, "actor_rollout_ref.rollout.top_p=0.9"], "top_p=0.9: must be 1.0"),
    ([*TRAIN, "actor_rollout_ref.rollout.top_k=20"], "set prefix_opd.allow_any_temperature=true"),
    ([*TRAIN, "actor_rollout_ref.rollout.calculate_log_probs=false"], "calculate_log_probs=False: must be true"),
    ([*TRAIN, f"{LAG}=2"], f"{LAG}=2: input should be less"),
    (
        [*TRAIN, f"{LAG}=1", "actor_rollout_ref.rollout.free_cache_engine=true"],
        "actor_rollout_ref.rollout.free_cache_engine=true: has one value on platform=cpu; leave it at false",
    ),
    ([*FORWARD_KL, f"{LAG}=1"], f"{LAG}=1: needs an importance ratio"),
    # how an update goes through its sequences
    (
        [*TRAIN, "prefix_opd.update.share_prompts=maybe"],
        "prefix_opd.update.share_prompts=maybe: input should be a valid",
    ),
    ([*TRAIN, "prefix_opd.update.response_logits_only=2"], "response_logits_only=2: input should be a valid boolean"),
    # batches that do not divide
    ([*TRAIN, "actor_rollout_ref.rollout.n=0"], "actor_rollout_ref.rollout.n=0: must be a whole number"),
    ([*TRAIN, "data.train_batch_size=2.5"], "data.train_batch_size=2.5: must be a whole number"),
    ([*TRAIN, "actor_rollout_ref.actor.ppo_mini_batch_size=5"], "ppo_mini_batch_size=5: must divide"),
    ([*TRAIN, "trainer.n_gpus_per_node=3"], "do not divide among 3 ranks"),
    ([*TRAIN, "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=200"], "holds no sequence of prompt + response = 224"),
    ([*TRAIN, "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=null"], "per_gpu=null: must be a whole number"),
    # settings that another loss would not read
    ([*FORWARD_KL, "prefix_opd.advantage.clamp=5"], "prefix_opd.advantage.clamp: is not"),
    # the divergences over the teacher's top k
    ([*JSD, f"{TOPK}=265"], f"{TOPK}=265: exceeds the vocabulary of 264 tokens"),
    ([*JSD, f"{TOPK}=0"], f"{TOPK}=0: must be a whole number of at least 1"),
    ([*JSD, "prefix_opd.loss.beta=1"], "prefix_opd.loss.beta=1: input should be less"),
    ([*JSD, "prefix_opd.advantage.clamp=5"], "prefix_opd.advantage.clamp: is not read by"),
    ([*TRAIN, "prefix_opd.probe.every=-1"], "prefix_opd.probe.every=-1"),
    ([*FORWARD_KL, "prefix_opd.probe.every=2"], "loss_mode=forward_kl_topk requests"),
    ([*JSD, "prefix_opd.probe.every=1"], "prefix_opd.probe.every=1: needs the teacher's"),
    ([*JSD, f"{LAG}=1"], f"{LAG}=1: needs an importance ratio"),
    ([*TRAIN, "prefix_opd.loss.beta=0.5"], "prefix_opd.loss.beta: is not read by distillation.distillation_loss.loss"),
    # the teacher's own prompt
    (
        [*TRAIN, "prefix_opd.teacher_prompt.column=hint", "data.train_files={few40}"],
        "lacks the column 'hint' (it has data_source, prompt, ability, reward_model, extra_info)",
    ),
    (
        [*TRAIN, 'prefix_opd.teacher_prompt.template="{prompt} {extra_info.hint}"', "data.train_files={few40}"],
        "row 0 has no 'extra_info.hint'; prefix_opd.teacher_prompt needs it in every row",
    ),
    ([*TRAIN, 'prefix_opd.teacher_prompt.template="solve it"'], "template lacks {prompt}, the question"),
    ([*TRAIN, "prefix_opd.teacher_prompt.max_length=64"], "teacher_prompt.max_length=64: is not read: the teacher has"),
    (
        [*TRAIN, "prefix_opd.teacher_prompt.column=hint", "prefix_opd.teacher_prompt.max_length=900"],
        "its context of 1024 tokens has no room for prompt + response + 1 = 1093",
    ),
    # the forced ending, the loss, the end tokens
    ([*TRAIN, 'prefix_opd.prompt.ending="<thought>"'], "the tokenizer splits it into"),
    (
        [*TRAIN, "prefix_opd.prompt.thinking=template"],
        "thinking=template: the chat template of actor_rollout_ref.model",
    ),
    (["prepare", "math500", "--thinking", "maybe"], "thinking=maybe: must be one of forced, template, off"),
    ([*TRAIN, "prefix_opd.advantage.clamp=-1"], "prefix_opd.advantage.clamp=-1: input should be greater than 0"),
    ([*TRAIN, "prefix_opd.advantage.student_log_prob=samplr"], "input should be 'sampler', 'current' or 'recomputed'"),
    ([*TRAIN, "prefix_opd.rollout.stop=[264]"], "stop=[264]: 264 is not a token of the vocabulary of 264"),
    ([*TRAIN, "prefix_opd.rollout.timeout_seconds=inf"], "timeout_seconds=inf: input should be a finite number"),
    ([*TRAIN, "prefix_opd.watchers.reverse_kl.threshold=nan"], "threshold=nan: input should be a finite number"),
    (
        [*TRAIN, "+data.apply_chat_template_kwargs.enable_thought=true"],
        "enable_thought=True: is not read by the chat template; leave it out",
    ),
    ([*TRAIN, "prefix_opd.rollout.stop=[]"], "names no end token: rollouts never end"),
    ([*TRAIN, "prefix_opd.weighting.name=window"], "window [0, None) is empty"),
    ([*TRAIN, f"{TEMPLATE}='{{% nonsense %}}'"], "custom_chat_template: does not render a question"),
    # folders
    ([*TRAIN, "trainer.default_local_dir=null"], "trainer.default_local_dir=null: must be a text that is not"),
    ([*TRAIN, "trainer.default_local_dir={few}"], "few.parquet: is a file; name another folder"),
    ([*TRAIN, "trainer.default_local_dir={few}/run"], "few.parquet is a file; name another folder"),
    ([*TRAIN, "trainer.validation_data_dir={few}"], "few.parquet: is a file; name another folder"),
    ([*TRAIN, "trainer.default_local_dir=" + "x" * 300], "cannot be a folder (OSError: [Errno 36] File name too long"),
    ([*TRAIN, "trainer.save_freq=null"], "trainer.save_freq=null: must be a whole number of updates, or -1 for"),
    ([*TRAIN, "trainer.resume_mode=resume_path"], "trainer.resume_mode=resume_path: needs the path of a checkpoint"),
    (
        [*TRAIN, "trainer.resume_mode=resume_path", "trainer.resume_from_path=/no/such"],
        "trainer.resume_from_path=/no/such: does not exist",
    ),
    ([*TRAIN, "trainer.resume_mode=resume"], "trainer.resume_mode=resume: must be auto, disable or resume_path"),
    ([*TRAIN, "trainer.default_local_dir={being_written}"], "another run is writing to it"),
    ([*TRAIN, "trainer.default_local_dir={other_run}"], "holds another run (prefix_opd.schedule.increment=99 there"),
    (["summary", "{tmp}"], "is not a run's folder: it has no config.yaml"),
    (["summary", "/no/such/run"], "/no/such/run: is not a run's folder"),
    (["export", "{tmp}"], "is not a run's folder"),
    (["export", "{other_run}"], "has no checkpoint; set trainer.save_freq above 0"),
    (["export", "{other_run}", "--adapter"], "other_run trained all weights: it has no adapter; leave --adapter out"),
    (
        ["plan", *TRAIN[1:], "actor_rollout_ref.model.lora_rank=few"],
        "lora_rank=few: must be a whole number of at least 0",
    ),
    # foreign code, pickles, secrets
    ([*TRAIN, "actor_rollout_ref.model.path={own_code}"], "its tokenizer_config.json names code of its own (auto_map)"),
    ([*TRAIN, f"{TEACHER}.model_path={{own_code}}"], "names code of its own (auto_map)"),
    ([*TRAIN, "actor_rollout_ref.model.path={pickles}"], "has only pickles as weights (pytorch_model.bin)"),
    ([*TRAIN, "actor_rollout_ref.model.path={broken_config}"], "its config.json is not JSON"),
    ([*TRAIN, "actor_rollout_ref.model.path={null_layers}"], "has num_hidden_layers=None, not a whole number"),
    ([*TRAIN, "trainer.project_name=hf_" + "a" * 34], "project_name: holds a secret"),
    ([*TRAIN, "+trainer.wandb_api_key=abc"], "trainer.wandb_api_key: is a secret"),
    *bad_commands.CASES,
    *bad_settings.CASES,
    *bad_evaluations.CASES,
]
PROCESSES = (
    CASES[0],
    (["doctor"], "actor_rollout_ref.model.path: is not set"),
    (["prepare", "gpqa"], "nearest first: gpqa-main"),
    (["tain"], "Did you mean 'train'?"),
)
"""Cases that run again in a separate process, as from a user's shell."""
SECONDS = 10.0
"""Limit of CPU seconds in this process, and of wall-clock seconds in a separate one."""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    with bad_places.written(tmp_path_factory.mktemp("broken")) as found:
        yield found


def _never(*arguments):
    raise AssertionError("what should have been refused was started")


def named(text, names):
    """The text with the paths that it names in braces; other braces, as Hydra's, stay."""
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


@pytest.mark.parametrize(("arguments", "line"), CASES, ids=[" ".join(case[0][1:])[-70:] for case in CASES])
def test_one_line_and_exit_code_2(arguments, line, places, monkeypatch, capsys, tmp_path):
    names = places["evaluate" if (arguments, line) in bad_evaluations.CASES else "ours"]
    arguments = [named(argument, names) for argument in arguments]
    line = named(line, names)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prefix-opd", *arguments])
    monkeypatch.setattr("prefix_opd.run.follow.run_and_watch", _never)
    began = time.process_time()
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert time.process_time() - began < SECONDS
    told = capsys.readouterr()
    assert leaving.value.code == 2, told
    assert told.err.startswith("error: ") and told.err.count("\n") == 1, told.err
    assert line in told.err
    assert not told.out
    assert not list(tmp_path.iterdir()), "something was written"
    assert not (Path(names.get("being_written", tmp_path)) / "commands.txt").exists()


def test_there_are_many_cases_and_none_twice():
    commands = [tuple(arguments) for arguments, _ in CASES]
    assert len(set(commands)) == len(commands) >= 110
    assert {arguments[0] for arguments in commands} - {"tain"} == set(cli.VERBS)


@pytest.mark.parametrize(("arguments", "line"), PROCESSES, ids=[case[0][0] for case in PROCESSES])
def test_a_process_says_the_same(arguments, line, tmp_path):
    command = [sys.executable, "-m", "prefix_opd.cli", *arguments]
    began = time.monotonic()
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert time.monotonic() - began < SECONDS
    assert ran.returncode == 2 and line in ran.stderr
    assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1 and not ran.stdout
    assert not list(tmp_path.iterdir()), "something was written"


def test_the_launcher_of_the_run_itself_looks_first(places, monkeypatch, capsys, tmp_path):
    """`python -m recipe.prefix_opd.main_prefix_opd` rejects the same as `prefix-opd train`, and checks only once."""
    seen = []
    monkeypatch.setattr("prefix_opd.checks.doctor.quick", lambda config: seen.append(config) or [])
    monkeypatch.setattr(launch, "run", lambda config, **_: None)
    command = ["experiment=tiny/schedule", f"trainer.default_local_dir={tmp_path}"]
    assert launch.main(command) == 0 and len(seen) == 1
    assert launch.main([launch.EXAMINED, *command]) == 0 and len(seen) == 1
    assert "--examined" not in (tmp_path / "commands.txt").read_text()
    for folder, told in (("other_run", "holds another run"), ("being_written", "another run is writing to it")):
        path = places["ours"][folder]
        assert launch.main([command[0], f"trainer.default_local_dir={path}"]) == 2
        assert told in capsys.readouterr().err and not (Path(path) / "commands.txt").exists()
