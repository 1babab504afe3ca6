"""A module of the user's: what it may register, and what is told of one that cannot be used."""

import itertools
import subprocess
import sys

import pytest

from prefix_opd.base.errors import UserError
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.config.plugins import import_plugins
from prefix_opd.config.settings import CHOICES, Settings
from prefix_opd.cost.plan import plan
from prefix_opd.miniature.data import write_data

SCHEDULE = """
from prefix_opd.base.fields import Tokens
from prefix_opd.method.schedule import SCHEDULES, Schedule

@SCHEDULES.register("mine")
class Mine(Schedule):
    multiple: Tokens = 3
    '''L at step 1, tokens.'''
    _more: int = 0

    def prefix_length(self, step, longest):
        return self.multiple * step + self._more

    def observe(self, metrics):
        self._more += 1
"""
numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the working directory and return its name. Its registrations end with the test."""
    monkeypatch.chdir(tmp_path)
    before = {name: dict(registry) for name, registry in CHOICES.items()}

    def write(text):
        name = f"plugin_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    for name, registry in CHOICES.items():
        registry.clear()
        registry.update(before[name])
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]


def test_its_settings_are_overridden_and_checked_like_ours(module):
    mine = ["experiment=tiny/schedule", f"prefix_opd.plugins=[{module(SCHEDULE)}]", "prefix_opd.schedule.name=mine"]
    config = compose([*mine, "prefix_opd.schedule.multiple=5"])
    assert Settings.from_node(config.prefix_opd).schedule.prefix_length(2, 192) == 10
    with pytest.raises(UserError, match="prefix_opd.schedule.multiple=0: input should be greater than or equal to 1"):
        Settings.from_node(compose([*mine, "prefix_opd.schedule.multiple=0"]).prefix_opd)
    with pytest.raises(UserError, match="prefix_opd.schedule.multipl: is not a key of the config"):
        compose([*mine, "prefix_opd.schedule.multipl=5"])
    with pytest.raises(UserError, match="prefix_opd.schedule.multiple: is not a key"):
        compose(["experiment=tiny/schedule", "prefix_opd.schedule.multiple=5"])


def test_a_plan_says_that_l_adapts(module):
    mine = [
        f"prefix_opd.plugins=[{module(SCHEDULE)}]",
        "prefix_opd.schedule.name=mine",
        "trainer.total_training_steps=4",
    ]
    found = plan(compose(["experiment=tiny/schedule", *mine]))
    assert (found.run["first_cap"], found.run["last_cap"]) == (3, 12)
    assert "the schedule mine adapts L to metrics of the run" in " ".join(found.notes)
    assert "memory that of L = 192" in " ".join(found.notes)
    shortest, longest = (found.courses[name].flop["exact"].total for name in ("shortest", "longest"))
    assert shortest < found.cost.flop["exact"].total < longest
    assert longest == found.full_opd.flop["exact"].total, "L may be 192 in every update"


@pytest.mark.parametrize(
    "text, told",
    [
        (
            "import nothing_of_this_name",
            r"cannot be imported \(ModuleNotFoundError: No module named 'nothing_of_this_n",
        ),
        ("def (", r"cannot be imported \(SyntaxError"),
        (SCHEDULE.replace("mine", "linear"), r"\(ValueError: schedule 'linear' is registered already"),
    ],
)
def test_a_module_that_cannot_be_used_is_told_in_one_line(module, text, told):
    name = module(text)
    with pytest.raises(UserError, match=rf"prefix_opd.plugins=\[{name}\]: .*{told}") as error:
        compose(["experiment=tiny/schedule", f"prefix_opd.plugins=[{name}]"])
    assert "\n" not in str(error.value)


def test_a_module_must_not_import_ray(tmp_path):
    """Ray reads on import where to listen. A process of its own, as this one may have imported Ray."""
    (tmp_path / "rays.py").write_text("import ray")
    command = [sys.executable, "-m", "prefix_opd.cli", "train", "--check", "experiment=tiny/schedule"]
    ran = subprocess.run(
        [*command, "prefix_opd.plugins=[rays]"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: prefix_opd.plugins=[rays]: imports ray before the run has set")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("given", ["my_module", [3], {"a": 1}])
def test_the_setting_is_a_list_of_modules(given):
    with pytest.raises(UserError, match=r"must be a list of modules; write prefix_opd.plugins=\[my_module\]"):
        import_plugins(given)


def test_a_schedule_that_fails_is_found_before_the_run(module, tmp_path):
    broken = SCHEDULE.replace("self.multiple * step", "1 / (step - 4)")
    files = write_data(tmp_path / "data", train=40, test=3)
    config = compose(
        [
            "experiment=tiny/schedule",
            f"prefix_opd.plugins=[{module(broken)}]",
            "prefix_opd.schedule.name=mine",
            "trainer.total_training_steps=4",
            f"data.train_files={files['train']}",
            f"data.val_files={files['test']}",
        ]
    )
    with pytest.raises(UserError, match=r"schedule.name=mine: gives no length at step 4 \(ZeroDivisionError: "):
        check(config)
