"""Data preparation: public data sets to verl's parquet, with no verl import.

A tour, in the order in which a row travels:

``known``      the data sets: repository, columns, defaults
``settings``   what the user may set
``source``     rows from the hub, or from local files (``local``)
``layouts``    a row to a ``Problem``
``sampling``   sampling by keyed hash, independent of order
``screen``     a prompt's length in tokens, and whether an evaluation set holds it (``overlap``)
``selection``  the pass that chooses
``rows``       a ``Problem`` to verl's row
``responses``  the second pass, for SeqKD
``files``      whole files, repeatable bytes
``manifest``   what was prepared, from what
``preparation``  all of it
"""

from prefix_opd.data.known import DOMAINS, KNOWN, KnownSet
from prefix_opd.data.manifest import Manifest
from prefix_opd.data.preparation import prepare
from prefix_opd.data.settings import PrepareSettings

__all__ = ["DOMAINS", "KNOWN", "KnownSet", "Manifest", "PrepareSettings", "prepare"]
