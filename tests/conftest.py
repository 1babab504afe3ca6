"""Every test runs on the CPU platform, except the self-test on a GPU (`tests/gpu`), and without access to a hub."""

import functools
import json
import os
import pickle
import shutil

import pytest

from prefix_opd.config.overrides import GROUPS
from prefix_opd.cpu.environment import set_environment
from prefix_opd.verl_plugin import our_run

ON_GPU = os.environ.get("PREFIX_OPD_TEST_PLATFORM") == "gpu"
if not ON_GPU:
    set_environment()
our_run.begin()


def read_once() -> None:
    """Read each YAML file and parse each ``${...}`` once per process: a thousand tests compose the same files."""
    import omegaconf.base
    from hydra._internal.config_repository import ConfigRepository

    parse = functools.lru_cache(None)(omegaconf.grammar_parser.parse)
    for module in (omegaconf.grammar_parser, omegaconf.base, omegaconf._utils):
        if hasattr(module, "parse"):
            module.parse = parse

    read, load = {}, ConfigRepository.load_config

    def load_config(self, config_path):
        key = (config_path, *(source.path for source in self.sources))
        if key not in read:
            read[key] = pickle.dumps(load(self, config_path))
        return pickle.loads(read[key])

    ConfigRepository.load_config = load_config


def compose_once() -> None:
    """Compose each choice of files once per process, and set values on a copy.

    Hydra itself composes the files first and sets the values afterwards. The files take 0.4 s, the values 0.01 s.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser

    whole, composed = ConfigLoaderImpl._load_configuration_impl, {}
    files = {*GROUPS, "hydra.searchpath"}

    def load_configuration(self, config_name, overrides, **more):
        parsed = OverridesParser.create().parse_overrides(overrides)
        values = [one for one in parsed if is_value(one)]
        chosen = [one for one in parsed if not is_value(one)]
        if not all(one.key_or_group in files for one in chosen):
            return whole(self, config_name, overrides, **more)
        lines = [one.input_line for one in chosen]
        key = (config_name, *lines, *(entry.path for entry in self.config_search_path.get_path()))
        if key not in composed:
            composed[key] = pickle.dumps(whole(self, config_name, lines, **more))
        config = pickle.loads(composed[key])
        self._apply_overrides_to_config(values, config)
        return config

    def is_value(override) -> bool:
        key = override.key_or_group
        return "." in key and "/" not in key and not key.startswith("hydra.") and override.package is None

    load_configuration.whole = whole
    ConfigLoaderImpl._load_configuration_impl = load_configuration


read_once()
compose_once()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"


COMPOSING = ("test_compose.py", "test_experiments.py", "test_gpu_configs.py", "test_layouts.py")
"""Files that compose every experiment, most of them the same."""


def end_to_end(nodeid: str) -> bool:
    """Whether a test runs the real program, by the name of its file."""
    return "end_to_end" in nodeid.partition("::")[0]


def pytest_collection_modifyitems(config, items):
    for item in items:
        if end_to_end(item.nodeid):
            item.add_marker(pytest.mark.e2e)
    with_workers = hasattr(config, "workerinput")
    items.sort(key=lambda item: end_to_end(item.nodeid) != with_workers)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With several workers, the tests of a file share a worker, and so do the files that compose every experiment.

    All runs of the real program share the first worker: each has a dozen processes. The other worker's tests run
    beside them, so that neither worker waits for the other. One process alone has the runs last.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "end to end" if end_to_end(nodeid) else "composing" if file.endswith(COMPOSING) else file

    config.option.loadscopereorder = False  # else by the number of tests
    return Scheduling(config, log)


@pytest.fixture(scope="module")
def cached_files():
    """Read each tokenizer once."""
    import transformers

    patch = pytest.MonkeyPatch()
    read = transformers.AutoTokenizer.from_pretrained
    patch.setattr(transformers.AutoTokenizer, "from_pretrained", staticmethod(functools.cache(read)))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def long_context_models(tmp_path_factory):
    """The miniature's models with Qwen3's context and its template's switch, as stand-ins for the paper's models."""
    from prefix_opd.miniature import shipped_models

    folder = tmp_path_factory.mktemp("stand_in_models")
    models = {role: shutil.copytree(shipped, folder / role) for role, shipped in shipped_models().items()}
    for model in models.values():
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 32768}))
        with (model / "chat_template.jinja").open("a") as template:
            template.write("{%- if enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}")
    return models


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """A process group with one process, which verl's FSDP engine needs."""
    import torch

    store = tmp_path_factory.mktemp("group") / "store"
    backend = "cpu:gloo,cuda:nccl" if ON_GPU else "gloo"
    torch.distributed.init_process_group(backend, init_method=f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def make_run(tmp_path):
    """Write the folder of a finished run: name, lines of metrics, settings."""
    from written_runs import write_run

    return lambda name, lines, **settings: write_run(tmp_path / name, lines, **settings)


@pytest.fixture
def run(make_run):
    """A finished run of two updates, validated before and after them."""
    from written_runs import ACCURACY, SIGNAL, binned, update

    lines = [{"step": 0, ACCURACY: 0.1}, update(1, 1e9), update(2, 3e9, **binned(SIGNAL), **{ACCURACY: 0.5})]
    return make_run("schedule_0", lines)
