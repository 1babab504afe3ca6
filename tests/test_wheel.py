"""The wheel holds all of the package and nothing else, and works without the checkout."""

import built_wheel
import pytest


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    return built_wheel.build(tmp_path_factory.mktemp("wheel"))


def files(folder, *names):
    found = (path for name in names for path in (folder / name).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in found if "__pycache__" not in path.parts}


def test_the_whole_package_and_nothing_beside_it(unpacked):
    assert files(unpacked, *built_wheel.SHIPPED) == files(built_wheel.ROOT, *built_wheel.SHIPPED)
    assert {path.name.partition("-")[0] for path in unpacked.iterdir()} == {"prefix_opd", "recipe"}
    kinds = {name.rpartition(".")[2] for name in files(unpacked, *built_wheel.SHIPPED)}
    assert {"py", "yaml", "json", "jinja", "safetensors", "txt"} <= kinds


def test_an_experiment_composes_from_the_wheel_alone(unpacked, tmp_path):
    program = "import prefix_opd, recipe.prefix_opd.config as c; print(prefix_opd.__file__, *c.__path__)"
    places = built_wheel.run(unpacked, tmp_path / "imported", "-c", program).stdout.split()
    assert places and all(place.startswith(str(unpacked)) for place in places)
    checked = built_wheel.run(
        unpacked, tmp_path / "checked", "-m", "prefix_opd.cli", "train", "--check", "experiment=tiny/schedule"
    )
    assert checked.returncode == 0, checked.stderr
    assert "nothing wrong found" in checked.stdout
