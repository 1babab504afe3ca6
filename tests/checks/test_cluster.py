"""What a run asks of Ray and of its GPUs, and what it hands its numbers to: refused in one line where it cannot be."""

from pathlib import Path

import pytest
from cluster_configs import TEACHER, config, refused

from prefix_opd.checks import cluster, services
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.config.keys import LOOP_KEY
from prefix_opd.cost.plan import plan


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in ("RAY_ADDRESS", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "/no/such/netrc")


def test_cpus_by_hand():
    # 3 a bundle of one GPU: 3 x (4 + 2 x 2) = 24; TransferQueue's controller 1, its storage units 8; 1 to start actors
    assert cluster.needed_cpus(config()) == 24 + 1 + 8 + 1
    assert cluster.needed_cpus(config(distillation__enabled=False)) == 12 + 1 + 8 + 1


def test_too_few_cpus_are_told_with_both_numbers():
    told = refused(cluster.check_cluster, config(ray_kwargs__ray_init__num_cpus=33))
    assert told.startswith("ray_kwargs.ray_init.num_cpus=33: the run asks Ray for 34: 3 for each of 4 + 4 GPUs, 8 for")
    cluster.check_cluster(config(ray_kwargs__ray_init__num_cpus=34))


def test_a_teacher_on_the_students_gpus_asks_ray_for_none():
    shared = config(prefix_opd__teacher__placement="shared", distillation__n_gpus_per_node=4, distillation__nnodes=1)
    assert cluster.gpus(shared) == (4, 0) and cluster.pools(shared) == (4, 4)
    assert cluster.needed_cpus(shared) == 12 + 1 + 8 + 1
    shared[TEACHER.split(".")[0]].teacher_models.teacher_model.inference.tensor_model_parallel_size = 8
    assert "=8: must divide the 4 GPUs of its engines" in refused(cluster.check_parallel_sizes, shared)
    cluster.check_running_cluster(shared, [(22.0, 4.0)])


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that sets what nvidia-smi lists and what the environment names."""

    def with_gpus(count, visible=None):
        program = tmp_path / "nvidia-smi"
        lines = "\n".join(f"echo 'GPU {index}: NVIDIA H100 (UUID: GPU-{index})'" for index in range(count))
        program.write_text(f"#!/bin/sh\n{lines}\necho '  MIG 1g.10gb Device 0: (UUID: MIG-0)'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setenv(cluster.VISIBLE, "")
        monkeypatch.delenv(cluster.VISIBLE)
        if visible is not None:
            monkeypatch.setenv(cluster.VISIBLE, visible)

    return with_gpus


ONE = {"trainer__n_gpus_per_node": 1, "distillation__n_gpus_per_node": 1, "distillation__nnodes": 1}


def test_one_card_holds_no_teacher_with_gpus_of_its_own(machine):
    machine(1)
    told = refused(cluster.check_machine, config(**ONE))
    assert told.startswith("nvidia-smi shows 1 GPU: the run asks for 2: 1 for the student (trainer.n_gpus_per_node")
    assert "set prefix_opd.teacher.placement=shared, " in told
    shared = config(**ONE, prefix_opd__teacher__placement="shared")
    cluster.check_machine(shared)
    machine(2)
    cluster.check_machine(config(**ONE))
    machine(2, visible="1")
    assert refused(cluster.check_machine, config(**ONE)).startswith("CUDA_VISIBLE_DEVICES=1 shows 1 GPU: the run asks")


def test_a_card_named_twice_is_one_card(machine):
    machine(1, visible="0,0")
    told = refused(cluster.check_machine, config(**ONE, ray_kwargs__ray_init__num_gpus=2))
    assert told.startswith("CUDA_VISIBLE_DEVICES=0,0: names GPU 0 more than once") and "error 101" in told


@pytest.mark.parametrize("visible", [None, "", "-1"])
def test_a_layout_of_gpus_on_a_machine_without_one(machine, visible):
    machine(0, visible)
    told = refused(cluster.check_machine, config(**ONE, prefix_opd__teacher__placement="shared"))
    assert "shows 0 GPUs: the run asks for 1" in told and told.endswith("use a machine with GPUs, or platform=cpu")
    cluster.check_machine(config(platform="cpu"))
    cluster.check_machine(config(**ONE, ray_kwargs__ray_init__address="auto"))  # the cluster has its own


def test_a_cluster_of_its_own_gets_as_many_cpus_as_it_needs(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    made = config()
    cluster.give_cpus(made)
    assert made.ray_kwargs.ray_init.num_cpus == 34
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    made = config()
    cluster.give_cpus(made)
    assert made.ray_kwargs.ray_init.num_cpus == 64
    made = config(ray_kwargs__ray_init__address="auto")
    cluster.give_cpus(made)
    assert made.ray_kwargs.ray_init.num_cpus is None


def test_an_address_and_what_only_a_new_cluster_can_be_given(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    told = refused(cluster.check_cluster, config(ray_kwargs__ray_init__num_cpus=40))
    assert told.startswith("RAY_ADDRESS=10.0.0.1:6379: names a cluster to join, but ray_kwargs.ray_init.num_cpus=40")
    told = refused(cluster.check_cluster, config(platform="cpu", ray_kwargs__ray_init__num_gpus=2))
    assert told.endswith("; unset RAY_ADDRESS")
    cluster.check_cluster(config())  # a run on GPUs may join


@pytest.mark.parametrize(("student", "teacher", "line"), [(3, 1, "must divide the 4 GPUs"), (2, 3, f"{TEACHER}.tens")])
def test_parallel_sizes_divide_their_gpus(student, teacher, line):
    changed = {
        "actor_rollout_ref__rollout__tensor_model_parallel_size": student,
        f"{TEACHER}.tensor_model_parallel_size": teacher,
    }
    assert line in refused(cluster.check_parallel_sizes, config(**changed))
    cluster.check_parallel_sizes(config())


def test_trackers(monkeypatch, tmp_path):
    monkeypatch.setattr(services.importlib.util, "find_spec", lambda name: name if name == "wandb" else None)
    line = "wandb has no key to log in with; export WANDB_API_KEY, or WANDB_MODE=offline"
    assert line in refused(services.check_trackers, config(trainer__logger=["console", "wandb"]))
    assert "swanlab needs the package swanlab" in refused(services.check_trackers, config(trainer__logger="swanlab"))
    assert "consol is not a tracker" in refused(services.check_trackers, config(trainer__logger=["consol"]))
    monkeypatch.setenv("WANDB_MODE", "offline")
    services.check_trackers(config(trainer__logger=["wandb"]))
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 1234\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    services.check_trackers(config(trainer__logger=["wandb", "file"]))


def test_a_manager_of_rollouts_derives_from_ours(tmp_path, monkeypatch):
    (tmp_path / "my_rollouts.py").write_text(
        "from prefix_opd.verl_plugin.worker import agent_loop\n\n\n"
        "class Mine(agent_loop.PrefixAgentLoopManager): ...\n\n\nclass Other(dict): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    key = "actor_rollout_ref__rollout__agent__agent_loop_manager_class"
    services.check_manager(config(**{key: services.MANAGER}))
    services.check_manager(config(**{key: "my_rollouts.Mine"}))
    for wrong in ("my_rollouts.Other", "my_rollouts.Nobody", "no_such_module.Mine", "Mine", "..", None, 5):
        assert "must be a class that derives from" in refused(services.check_manager, config(**{key: wrong}))


def test_an_agent_loop_is_a_class_whose_file_is_read_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    Path("my_loops.py").write_text(f"{ran}class Loop(AgentLoopBase): ...\nclass Plain: ...\n")

    def made(named, tools=0):
        keys = {"actor_rollout_ref__rollout__agent__default_agent_loop": named}
        return config(**keys, prefix_opd__rollout__tool_tokens=tools)

    for tools in (0, 32):
        services.check_agent_loop(made("my_loops.Loop", tools))
    services.check_agent_loop(made("single_turn_agent"))
    assert "single_turn_agent has none" in refused(services.check_agent_loop, made("single_turn_agent", 32))
    for wrong in ("my_loops.Plain", "my_loops.Nobody", "Loop", "tool_agent", "..", None, 5):
        assert f"is looked for in {tmp_path} and on" in refused(services.check_agent_loop, made(wrong))
    assert not (tmp_path / "ran").exists()


def test_tool_outputs_have_room_beside_the_longest_response(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_loops.py").write_text("class Loop(AgentLoopBase): ...\n")
    loop = ["experiment=tiny/schedule", f"{LOOP_KEY}=my_loops.Loop", "prefix_opd.rollout.tool_tokens=100"]
    made = compose(loop)
    assert made.actor_rollout_ref.rollout.response_length == 292 and made.data.max_response_length == 192
    engines = (made.actor_rollout_ref.rollout, made.distillation.teacher_models.teacher_model.inference)
    assert [engine.max_model_len for engine in engines] == [32 + 292 + 1] * 2
    assert check(made).rollout.tool_tokens == 100
    made = compose([*loop, "actor_rollout_ref.rollout.max_model_len=324"])
    assert "no room for prompt + response + 1 = 32 + 292 + 1" in refused(check, made)
    made = compose([*loop[:2], "prefix_opd.rollout.tool_tokens=900"])
    assert "its context of 1024 tokens has no room for prompt + response + 1 = 1125" in refused(check, made)
    # plan: 100 more tokens of context for both models
    with_tools, without = plan(compose(loop)), plan(compose(loop[:1]))
    rollouts = 55 * 64
    for tokens in ("prompts", "scored"):
        assert with_tools.cost.tokens[tokens] == without.cost.tokens[tokens] + rollouts * 100
    assert with_tools.cost.tokens["generated"] == without.cost.tokens["generated"]
    assert any("tool outputs count as 100 more tokens" in note for note in with_tools.notes)


def test_the_graders_file_is_read_and_not_run(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nif True:\n    def grade_it(**kwargs): ...\n")
    node = {"reward__custom_reward_function__path": str(file)}
    services.check_grader(config(**node, reward__custom_reward_function__name="grade_it"))
    assert "name=other: is not defined in" in refused(
        services.check_grader, config(**node, reward__custom_reward_function__name="other")
    )
    file.write_text("def grade_it(data_source, solution_str, ground_truth, extra_info=None, strict=False): ...")
    node["reward__custom_reward_function__name"] = "grade_it"
    key = "reward.custom_reward_function"
    own = compose([f"{key}.path={file}", f"{key}.name=grade_it", f"+{key}.reward_kwargs.strict=true"])
    services.check_grader(own)
    assert own.reward.custom_reward_function.reward_kwargs == {"strict": True}, "verl would pass prompt_ending"
    assert "name=grade_it: takes no argument fast, which verl passes; add it" in refused(
        services.check_grader, config(**node, reward__custom_reward_function__reward_kwargs={"fast": 1})
    )
    file.write_text("def grade_it(data_source, solution_str, ground_truth): ...")
    assert "takes no argument extra_info" in refused(services.check_grader, config(**node))
    file.write_text("def outer():\n    def grade_it(**kwargs): ...")
    assert "name=grade_it: is not defined in" in refused(services.check_grader, config(**node))
    file.write_text("def (:")
    assert "is not valid Python" in refused(services.check_grader, config(**node))
    file.unlink()
    assert "does not exist" in refused(services.check_grader, config(**node))
    services.check_grader(config())
    assert not (tmp_path / "ran").exists()
