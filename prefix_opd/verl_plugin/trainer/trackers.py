"""verl's trackers, with failures that cannot end the run.

The run logs a warning about a failed tracker and goes on without it. Its own record (`prefix_opd.run.log`) is complete
in any case.
"""

from __future__ import annotations

import logging
from typing import Any

from verl.utils.tracking import Tracking

from prefix_opd.run.log import Forgiving

logger = logging.getLogger(__name__)


class Trackers(Tracking):
    """verl's trackers, each created separately, tried once, and closed once."""

    def __init__(
        self, project_name: str, experiment_name: str, default_backend: str | list[str] = "console", config: Any = None
    ):
        names = [default_backend] if isinstance(default_backend, str) else list(default_backend)
        super().__init__(project_name, experiment_name, [], config)
        for name in names:
            try:
                made = Tracking(project_name, experiment_name, [name], config)
            except AssertionError:  # unknown tracker name: bad input
                raise
            except Exception as error:
                logger.warning("%s cannot be reached (%s); the run goes on without it", name, error)
                continue
            made._finished = True  # keeps its destructor from closing the tracker; this class closes it
            self.logger.update({one: Forgiving(one, tracker) for one, tracker in made.logger.items()})


def forgiving(verls_own: type) -> type:
    """Replace verl's class with `Trackers`."""
    return Trackers
