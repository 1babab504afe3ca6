"""The small copies of the data sets, written once."""

import pytest
from data_copies import write_aime, write_gpqa, write_math500, write_mmlu, write_openthoughts


@pytest.fixture(scope="session")
def openthoughts(tmp_path_factory):
    return write_openthoughts(tmp_path_factory.mktemp("hub") / "OpenThoughts3-1.2M")


@pytest.fixture(scope="session")
def math500(tmp_path_factory):
    return write_math500(tmp_path_factory.mktemp("hub") / "MATH-500")


@pytest.fixture(scope="session")
def gpqa(tmp_path_factory):
    return write_gpqa(tmp_path_factory.mktemp("hub") / "gpqa")


@pytest.fixture(scope="session")
def mmlu(tmp_path_factory):
    return write_mmlu(tmp_path_factory.mktemp("hub") / "MMLU-Pro")


@pytest.fixture(scope="session")
def aime(tmp_path_factory):
    return write_aime(tmp_path_factory.mktemp("hub") / "aime_2024")
