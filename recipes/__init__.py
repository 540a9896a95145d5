"""Tables and figures of three papers on adaptation and delays in spiking networks, one command each.

``python -m recipes --list`` names them, ``python -m recipes run NAME --smoke`` shows one in a minute without
any data. A recipe is a short script with the numbers of one experiment, in the paper's terms; what recipes
share is in :mod:`recipes.engine`.
"""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine.command.trained import Trained

__all__ = ["load"]


def load(run: "str | PathLike[str]") -> "Trained":
    """The network of a finished run, with the weights of its chosen epoch, and what reads recordings for it.

    :param run: its folder, with ``result.json`` and ``best.pt``.
    :returns: an object with ``network``, ``recordings(path)``, ``probabilities(inputs)`` and ``predict(path)``.
    :raises DataError: (a ValueError) for what is no finished run, or not one of this version; it names the file.
    """
    from pathlib import Path

    from .engine.command.trained import load as load_run
    from .tables import TABLES

    return load_run(Path(run), TABLES)
