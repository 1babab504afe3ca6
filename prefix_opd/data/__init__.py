"""Data preparation: public data sets to verl's parquet, without importing verl.

The modules, in the order in which a row passes through them:

``known``      the data sets: repository, columns, defaults
``settings``   settings of a preparation
``source``     rows from the hub, or from local files (``local``)
``layouts``    a row to a ``Problem``
``sampling``   sampling by keyed hash, independent of order
``screen``     length of a prompt, and whether an evaluation set contains it (``overlap``)
``selection``  the pass that selects questions
``rows``       a ``Problem`` to verl's row; parquet files with reproducible bytes
``manifest``   record of a preparation
``preparation``  the whole preparation, with the second pass that keeps responses for SeqKD
"""

from prefix_opd.data.known import DOMAINS, KNOWN, KnownSet
from prefix_opd.data.preparation import prepare
from prefix_opd.data.settings import PrepareSettings

__all__ = ["DOMAINS", "KNOWN", "KnownSet", "PrepareSettings", "prepare"]
