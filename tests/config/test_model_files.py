"""Which files hold a model's weights: safetensors, and never pickles alone."""

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from prefix_opd.base.errors import UserError
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.config.models import Model
from prefix_opd.miniature import shipped_models


def test_weights_as_pickles_alone_are_refused(tmp_path):
    folder = shutil.copytree(shipped_models()["teacher"], tmp_path / "model")
    key = "distillation.teacher_models.teacher_model.model_path"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has only pickles as weights \(pytorch_model.bin\)"):
        check(compose(["experiment=tiny/schedule", f"{key}={folder}"]))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="has no weights"):
        check(compose(["experiment=tiny/schedule", f"{key}={folder}"]))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["config.json", "pytorch_model.bin"], r"has only pickles as weights \(pytorch_model.bin\)"),
        (["config.json"], "has no weights"),
        (["weights.safetensors"], "has weights in weights.safetensors, and transformers reads model.safetensors"),
        (["model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin"], ""),
    ],
)
def test_weights_on_the_hub_are_told_by_its_list_of_files(names, told, monkeypatch):
    class Hub:
        def model_info(self, name, timeout):
            assert name == "someone/model"
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(UserError, match=told) if told else nullcontext():
        Model("model", "someone/model").check_weights()


def test_a_hub_that_cannot_be_asked_is_passed_over(monkeypatch):
    def unreachable():
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.HfApi", pytest.fail)
    Model("model", "someone/model").check_weights()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(model_info=lambda *_, **__: unreachable()))
    Model("model", "someone/model").check_weights()
