"""Models and run folders from elsewhere run no code of theirs."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adapters import write_adapter as by_peft
from omegaconf import OmegaConf
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from prefix_opd.base.errors import UserError
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.config.lora import Lora
from prefix_opd.config.models import Model
from prefix_opd.config.overrides import options
from prefix_opd.evaluation.benchmarks import Sampling, find
from prefix_opd.evaluation.config import evaluation_config
from prefix_opd.evaluation.target import open_target
from prefix_opd.method.lora import LINEAR
from prefix_opd.miniature import shipped_models
from prefix_opd.run.adapter import write_adapter
from prefix_opd.run.export import export_checkpoint, merger_environment

ROOT = Path(__file__).parents[1]


# ---- foreign code ----


def trust_keys(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from trust_keys(value, f"{prefix}{key}.")
        elif key == "trust_remote_code":
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("kind", ["tiny/schedule", "qwen3_8b/schedule", "qwen3_1.7b/full"])
def test_no_experiment_trusts_foreign_code(kind):
    assert kind in options("experiment")
    found = dict(trust_keys(OmegaConf.to_container(compose([f"experiment={kind}"]))))
    assert "actor_rollout_ref.model.trust_remote_code" in found
    assert not any(found.values()), found


def test_no_yaml_and_no_call_of_ours_trusts_foreign_code():
    for path in [*(ROOT / "recipe").rglob("*.yaml"), *(ROOT / "scripts").iterdir()]:
        assert not re.search(r"trust_remote_code\W+true", path.read_text(), re.IGNORECASE), path
    for path in [*(ROOT / "prefix_opd").rglob("*.py"), *(ROOT / "recipe").rglob("*.py")]:
        assert "trust_remote_code=True" not in re.sub(r"``.*?``", "", path.read_text()), path


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused_before_it_runs(name, tmp_path):
    folder = shutil.copytree(shipped_models()["student"], tmp_path / "model")
    path = folder / name
    named = {"AutoTokenizer": ["evil.Tokenizer", None], "AutoConfig": "evil.Config"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": named}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'it_ran')!r}, 'w').close()\n")
    config = compose(["experiment=tiny/schedule", f"actor_rollout_ref.model.path={folder}"])
    with pytest.raises(UserError, match=rf"its {name} names code of its own \(auto_map\)"):
        check(config)
    assert not (tmp_path / "it_ran").exists()
    Model("model", str(folder), trust_remote_code=True).check_own_code()  # asked for: no complaint


@pytest.mark.parametrize("name", ["generation_config.json", "video_preprocessor_config.json", "config.json"])
def test_code_is_found_in_any_json_file_and_in_a_config_within_a_config(name, tmp_path):
    folder = shutil.copytree(shipped_models()["student"], tmp_path / "model")
    path = folder / name
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, "part": [{"auto_map": {"AutoModel": "evil.Model"}}]}))
    with pytest.raises(UserError, match=rf"its {name} names code of its own"):
        Model("model", str(folder)).check_own_code()


# ---- a run's folder from elsewhere ----


@pytest.fixture
def foreign_run(tmp_path):
    """A run folder with an exported checkpoint, whose config and model files are not trusted."""
    run = tmp_path / "run"
    (run / "global_step_2" / "actor").mkdir(parents=True)
    (run / "latest_checkpointed_iteration.txt").write_text("2")
    (run / "metrics.jsonl").write_text('{"step": 2}\n')
    shutil.copytree(shipped_models()["student"], run / "hf_step_2")
    config = compose(["experiment=tiny/schedule"])
    config.prefix_opd.stop_token_ids = [3]

    def write(**changed):
        for key, value in changed.items():
            OmegaConf.update(config, key, value, force_add=True)
        OmegaConf.save(config, run / "config.yaml", resolve=True)
        return str(run)

    return write


def test_code_in_a_foreign_runs_model_is_refused_whatever_its_config_says(foreign_run):
    run = foreign_run(**{"actor_rollout_ref.model.trust_remote_code": True})
    path = Path(run) / "hf_step_2" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoTokenizer": ["evil.T", None]}}))
    with pytest.raises(UserError, match=r"tokenizer_config.json names code of its own"):
        open_target(run, None)
    assert open_target(run, None, trust_remote_code=True).model.trust_remote_code


def test_an_evaluation_takes_over_nothing_but_what_a_user_may_set(foreign_run, tmp_path):
    evil = {
        "actor_rollout_ref.model.trust_remote_code": True,
        "actor_rollout_ref.model.tokenizer_path": "/evil",
        "actor_rollout_ref.model.external_lib": "evil",
        "actor_rollout_ref.model.override_config.rope_theta": 1,
        "actor_rollout_ref.actor.fsdp_config._target_": "os.system",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls": "evil.Worker",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.trust_remote_code": True,
        "ray_kwargs.ray_init.address": "10.0.0.1:6379",
        "ray_kwargs.ray_init.dashboard_host": "0.0.0.0",
        "ray_kwargs.ray_init.runtime_env.py_executable": "/evil",
        "ray_kwargs.ray_init.runtime_env.env_vars.LD_PRELOAD": "/evil",
        "reward.custom_reward_function.path": "/evil.py",
        "platform": "cpu",
    }
    kept = {"actor_rollout_ref.rollout.max_num_seqs": 17, "ray_kwargs.ray_init.num_cpus": 23}
    target = open_target(foreign_run(**evil, **kept), None)
    config = evaluation_config(target, find(["tiny"], tmp_path, 1, 2), Sampling(max_tokens=16), tmp_path / "out", 2)
    for key in evil:
        if key != "platform":
            assert OmegaConf.select(config, key) != evil[key], key
    assert {key: OmegaConf.select(config, key) for key in kept} == kept


@pytest.mark.parametrize("key", ["prefix_opd.prompt.ending", "actor_rollout_ref.model.path"])
def test_nothing_is_looked_up_for_a_foreign_config(foreign_run, key, monkeypatch):
    run = foreign_run()
    text = (Path(run) / "config.yaml").read_text()
    config = OmegaConf.create(text)
    OmegaConf.update(config, key, "${oc.env:HOME}")
    (Path(run) / "config.yaml").write_text(OmegaConf.to_yaml(config))
    with pytest.raises(UserError, match=rf"contains \$\{{...\}} in {key}"):
        open_target(run, None)


def test_the_adapter_of_a_foreign_run_is_merged_into_no_model_that_brings_code_or_pickles(foreign_run, tmp_path):
    base = shutil.copytree(shipped_models()["student"], tmp_path / "base")
    run = Path(foreign_run(**{"actor_rollout_ref.model.lora_rank": 8, "actor_rollout_ref.model.path": str(base)}))
    shutil.rmtree(run / "hf_step_2")
    shutil.copytree(shipped_models()["student"], run / "global_step_2" / "actor" / "huggingface")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    torch.save({}, run / "global_step_2" / "actor" / "model_world_size_1_rank_0.pt")  # else it is damaged
    with pytest.raises(UserError, match="has only pickles as weights"):
        export_checkpoint(run)
    (base / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.T", null]}}')
    with pytest.raises(UserError, match="names code of its own"):
        export_checkpoint(run)


def test_the_shards_of_an_adapter_are_read_without_running_what_is_pickled(tmp_path):
    shard = {"a.lora_A.default.weight": torch.ones(2), "evil": Touch(tmp_path / "it_ran")}
    torch.save(shard, tmp_path / "model_world_size_1_rank_0.pt")
    with pytest.raises(pickle.UnpicklingError):
        write_adapter(tmp_path, "base", Lora(8, 16, LINEAR, False), tmp_path / "out")
    assert not (tmp_path / "it_ran").exists()


OWN_CODE = """
from pathlib import Path
from transformers import Qwen3Config, Qwen3ForCausalLM
Path({mark!r}).touch()
class Config(Qwen3Config):
    pass
class Model(Qwen3ForCausalLM):
    config_class = Config
"""


def with_own_code(folder, mark):
    """The student in a new folder, with code that makes the file ``mark``."""
    model = shutil.copytree(shipped_models()["student"], folder)
    named = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    config = {**json.loads((model / "config.json").read_text()), "auto_map": named, "architectures": ["Model"]}
    (model / "config.json").write_text(json.dumps(config))
    (model / "mine.py").write_text(OWN_CODE.format(mark=str(mark)))
    return model


def test_a_checkpoint_with_code_of_its_own_is_exported_only_if_it_is_trusted(foreign_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    run, mark = Path(foreign_run()), tmp_path / "it_ran"
    actor = run / "global_step_2" / "actor"
    model = with_own_code(actor / "huggingface", mark)
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save(weights, actor / "model_world_size_1_rank_0.pt")
    (actor / "fsdp_config.json").write_text('{"world_size": 1}')
    with pytest.raises(UserError, match="names code of its own.*add --trust-remote-code; or remove the entry"):
        export_checkpoint(run, out=tmp_path / "out")
    assert not mark.exists() and not (tmp_path / "out").exists()
    out = export_checkpoint(run, out=tmp_path / "out", trusted=True)
    assert mark.exists() and (out / "mine.py").exists()
    exported = load_file(out / "model.safetensors")
    assert all(torch.equal(exported[name], tensor.bfloat16()) for name, tensor in weights.items())


def test_an_adapter_is_merged_into_a_student_with_code_of_its_own_only_if_it_is_trusted(
    foreign_run, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    mark, base = tmp_path / "it_ran", with_own_code(tmp_path / "base", tmp_path / "it_ran")
    settings = {"path": str(base), "lora_rank": 4, "lora_alpha": 8}
    run = Path(foreign_run(**{f"actor_rollout_ref.model.{name}": value for name, value in settings.items()}))
    actor = run / "global_step_2" / "actor"
    with_own_code(actor / "huggingface", mark)
    adapter = by_peft(tmp_path / "adapter")
    shard = load_file(adapter / "adapter_model.safetensors")
    shard = {name.replace(".weight", ".default.weight"): tensor for name, tensor in shard.items()}
    torch.save(shard, actor / "model_world_size_1_rank_0.pt")
    with pytest.raises(UserError, match="actor/huggingface.* names code of its own.*add --trust-remote-code; or"):
        export_checkpoint(run, out=tmp_path / "out")
    assert not mark.exists() and not (tmp_path / "out").exists()
    out = export_checkpoint(run, out=tmp_path / "out", trusted=True)
    assert mark.exists() and (out / "mine.py").exists()
    found = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)
    assert type(found).__name__ == "Model"
    ids = torch.arange(40)[None]
    plain = AutoModelForCausalLM.from_pretrained(shipped_models()["student"])
    with torch.no_grad():
        merged, beside = found(ids).logits, PeftModel.from_pretrained(plain, adapter)(ids).logits
    assert (merged - beside).abs().max() < 1e-3


# ---- pickles ----


def test_export_reads_shards_without_running_what_is_pickled(tmp_path):
    """verl's merger requests full pickle, but torch rejects code in the environment that export sets."""
    shard = tmp_path / "model_world_size_1_rank_0.pt"
    torch.save({"weight": torch.ones(2), "evil": Touch(tmp_path / "it_ran")}, shard)
    program = f"import torch; torch.load({str(shard)!r}, weights_only=False)"
    ran = subprocess.run([sys.executable, "-c", program], env=merger_environment("cpu"), capture_output=True, text=True)
    assert ran.returncode and "Weights only load failed" in ran.stderr
    assert not (tmp_path / "it_ran").exists()


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))
