"""Samples without a spike, or with none before the last bin ends.

A recording that was lost, or times in ms, look like this, and no file that we have seen holds one on purpose: an error that
names the file and the samples. With ``--allow-silence`` they are kept, as silence.
"""

import argparse
import logging
from pathlib import Path

import numpy as np

from ..errors import DataError

log = logging.getLogger(__name__)


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-silence", action="store_true", help="keep samples without a spike; otherwise they are an error"
    )


def check(path: Path, silent: np.ndarray, duration: float, allowed: bool) -> None:
    """Samples without spikes in their ``duration`` (s) are an error or, where they are allowed, a line in the log."""
    if not len(silent):
        return
    named = ", ".join(map(str, silent[:5])) + (", ..." if len(silent) > 5 else "")
    count = f"sample {named} has" if len(silent) == 1 else f"{len(silent)} samples (numbers {named}) have"
    what = f"{path}: {count} no spikes in the first {duration:g} s"
    if not allowed:
        raise DataError(f"{what}; if that is meant, --allow-silence keeps them as silence")
    log.info("%s, kept as silence", what)
