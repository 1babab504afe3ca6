"""The self-test on a GPU: ``bash scripts/test_gpu.sh``."""

from pathlib import Path

import pytest
from on_platform import why_not

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    reason = why_not()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
