"""What recordings of one's own may need: another length, another number of units, samples held out at random."""

import argparse
import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OptionError

if TYPE_CHECKING:
    from .binned import Binning

SPLITS = ("speakers", "random")
_LONGEST = 600.0  # s
_MOST_UNITS = 32_767  # which events are stored with


@dataclasses.dataclass(frozen=True)
class Split:
    """How samples are held out where a folder has no file of them. "speakers": a ``share`` of the speakers, for validation
    alone; "random": of every class this share of the samples, for validation and, where there is no test file, as many for
    the test. ``seed`` draws them, the same for every run of a table."""

    how: str = "speakers"
    share: float = 0.2
    seed: int = 0

    def __post_init__(self):
        if self.how not in SPLITS:
            raise ValueError(f"split {self.how!r}: use one of {', '.join(SPLITS)}")

    @property
    def random(self) -> bool:
        return self.how == "random"

    @property
    def settings(self) -> dict:
        """Nothing of what runs had before there was a choice."""
        return {} if self == AS_EVER else {"split": dataclasses.asdict(self)}

    @classmethod
    def of_run(cls, settings: dict) -> "Split":
        return cls(**settings.get("split", {}))

    def draw(self, labels: np.ndarray, parts: int) -> list[np.ndarray]:
        """Sample numbers of ``parts`` sets that are held out, and of what is left, in this order; of a class with too few
        samples all are left."""
        rng = np.random.default_rng(self.seed)
        drawn: list[list[np.ndarray]] = [[] for _ in range(parts + 1)]
        for label in np.unique(labels):
            of_class = rng.permutation(np.flatnonzero(labels == label))
            count = max(1, round(self.share * len(of_class)))
            if count * parts >= len(of_class):
                count = (len(of_class) - 1) // parts
            ends = [count * (part + 1) for part in range(parts)]
            for part, chosen in zip(drawn, np.split(of_class, ends), strict=True):
                part.append(chosen)
        return [np.sort(np.concatenate(part)) for part in drawn]


AS_EVER = Split()


def add_options(parser: argparse.ArgumentParser, duration: float, units: int, group: int | None) -> None:
    """``duration`` (s), ``units`` and ``group`` are the recipe's; without ``group`` (None) no units are summed."""
    parser.add_argument(
        "--duration",
        type=float,
        metavar="SECONDS",
        help=f"length of a sample; later spikes are cut off (default {duration:g})",
    )
    parser.add_argument("--units", type=int, metavar="N", help=f"of the recordings, numbered from 0 (default {units})")
    if group is not None:
        parser.add_argument(
            "--group", type=int, metavar="N", help=f"so many neighbouring units become one channel (default {group})"
        )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        help="what is held out where there is no valid file: speakers (default), or random samples of every class; of them "
        "a test set is made, too, where there is no test file",
    )
    parser.add_argument("--held-out", type=float, metavar="SHARE", help="of the speakers, or of every class (default 0.2)")
    parser.add_argument("--split-seed", type=int, metavar="N", help="which are held out (default 0)")


def split_of(given: argparse.Namespace, before: Split) -> Split:
    """Raises :class:`OptionError`."""
    how, share, seed = _asked(given, "split", "held_out", "split_seed")
    share = before.share if share is None else share
    seed = before.seed if seed is None else seed
    if not 0.01 <= share <= 0.5:
        raise OptionError(f"--held-out {share:g}: a share between 0.01 and 0.5")
    if not 0 <= seed < 2**32:
        raise OptionError(f"--split-seed {seed}: a whole number between 0 and {2**32 - 1}")
    return Split(how or before.how, share, seed)


def is_split(given: argparse.Namespace, split: Split, settings: dict) -> bool:
    """Whether a run with these settings is one that the options ask for, of a recipe that holds out ``split``."""
    none = _asked(given, "split", "held_out", "split_seed") == (None, None, None)
    return none or Split.of_run(settings) == split_of(given, split)


def seconds(given: argparse.Namespace, before: float, step: float | None) -> float:
    """The length that is asked for, in whole steps (s; None: any). Raises :class:`OptionError`."""
    (asked,) = _asked(given, "duration")
    if asked is None:
        return before
    shortest = step or 0.001
    if not shortest <= asked <= _LONGEST:
        raise OptionError(f"--duration {asked:g}: between {shortest:g} and {_LONGEST:g} seconds")
    if step and not math.isclose(asked, step * round(asked / step), rel_tol=1e-6):
        raise OptionError(f"--duration {asked:g}: not a whole number of steps of {1000 * step:g} ms")
    return asked


def units_of(given: argparse.Namespace, before: int, group: int | None) -> tuple[int, int]:
    """Units, and how many become one channel. Raises :class:`OptionError`."""
    asked, together = _asked(given, "units", "group")
    units = before if asked is None else asked
    if not 1 <= units <= _MOST_UNITS:
        raise OptionError(f"--units {units}: between 1 and {_MOST_UNITS}")
    if group is None:
        return units, 1
    if together is None and group > units:
        raise OptionError(
            f"--units {units}: fewer than the {group} neighbouring units that become one channel; give a --group, "
            f"between 1 and {units}"
        )
    group = group if together is None else together
    if not 1 <= group <= units:
        raise OptionError(f"--group {group}: between 1 and the number of units, {units}")
    if units % group:
        more = units + group - units % group
        raise OptionError(
            f"--units {units}: not a multiple of the {group} neighbouring units that become one channel; --units {more}, "
            "whose last ones stay silent, and another --group would do"
        )
    return units, group


def binning_of(given: argparse.Namespace, before: "Binning") -> "Binning":
    """Steps stay as long as they were. Raises :class:`OptionError`."""
    step = before.duration / before.steps
    duration = seconds(given, before.duration, step)
    units, group = units_of(given, before.units, before.group)
    return dataclasses.replace(before, duration=duration, steps=round(duration / step), units=units, group=group)


def is_binning(given: argparse.Namespace, binning: "Binning", settings: dict) -> bool:
    """Whether a run with these settings has the length and the units that the options ask for, if they ask for any;
    ``binning`` is the recipe's."""
    return not lengths_are_asked(given) or settings["binning"] == dataclasses.asdict(binning_of(given, binning))


def lengths_are_asked(given: argparse.Namespace) -> bool:
    """Whether the options say of another length or of other units."""
    return _asked(given, "duration", "units", "group") != (None, None, None)


def _asked(given: argparse.Namespace, *names: str) -> tuple:
    """What was given of these options; None: nothing, or there is no such option."""
    return tuple(getattr(given, name, None) for name in names)
