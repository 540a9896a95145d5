"""Tables and figures of three papers on adaptation and delays in spiking networks, one command each.

``python -m recipes --list`` names them, ``python -m recipes run NAME --smoke`` shows one in a minute without
any data. A recipe is a short script with the numbers of one experiment, in the paper's terms; what recipes
share is in :mod:`recipes.engine`.
"""

import contextlib
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .engine.command.trained import Trained

__all__ = ["load", "write_recordings"]


@contextlib.contextmanager
def _extra() -> "Iterator[None]":
    """Imports from the extra ``recipes``, whose absence is said in one voice."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "snn_delay_plugins", __name__.partition(".")[0]):
            raise
        raise ImportError(f"recipes need {error.name}: pip install 'snn_delay_plugins[recipes]'") from error


def load(run: "str | PathLike[str]") -> "Trained":
    """The network of a finished run, with the weights of its chosen epoch, or of a model that was exported, and what reads
    recordings for it.

    :param run: its folder, with ``result.json`` and ``best.pt``, or with ``model.json`` and ``weights.pt``.
    :returns: an object with ``network``, ``recordings(path)``, ``probabilities(inputs)`` and ``predict(path)``.
    :raises DataError: (a ValueError) for what is no finished run, or not one of this version; it names the file.
    """
    from pathlib import Path

    with _extra():
        from .engine.command.trained import load as load_run
        from .tables import TABLES

    return load_run(Path(run), TABLES)


def write_recordings(path: "str | PathLike[str]", dataset: "Iterable", **options) -> "Path":
    """Write a data set of tonic, SpikingJelly, snnTorch or your own in SHD's format, for ``--data-dir``:
    :func:`recipes.engine.data.shd_writing.write_recordings`, which has the ``options``."""
    with _extra():
        from .engine.data.shd_writing import write_recordings as write

    return write(path, dataset, **options)
