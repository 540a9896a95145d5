"""Augmentations by name, each with a number that says how strong it is: on the command line and in settings."""

import argparse
import math
from collections.abc import Mapping

from ..errors import OptionError


def used(strengths: Mapping[str, float]) -> dict[str, float]:
    """Those that do something."""
    return {name: value for name, value in strengths.items() if value}


def check(strengths: Mapping[str, float], limits: Mapping[str, float]) -> None:
    """Raises :class:`OptionError` for a name without a limit and for a number that is not between 0 and it."""
    for name, value in strengths.items():
        if name not in limits:
            raise OptionError(f"augmentation {name!r}: there are {', '.join(limits)}")
        if not 0 <= value <= limits[name] or not math.isfinite(value):
            bounds = "not negative" if math.isinf(limits[name]) else f"between 0 and {limits[name]:g}"
            raise OptionError(f"augmentation {name}={value:g}: the number must be finite and {bounds}")


def add_option(parser: argparse.ArgumentParser, strengths: Mapping[str, float], units: str) -> None:
    shown = ",".join(f"{name}={value:g}" for name, value in strengths.items()) or "none"
    parser.add_argument(
        "--augment",
        metavar="NAME=NUMBER,...",
        help=f"strengths of augmentations that differ from the recipe's, {shown} (0: without; {units})",
    )


def asked_for(given: argparse.Namespace) -> dict[str, float]:
    """What ``--augment`` says. Raises :class:`OptionError`."""
    found = {}
    for part in filter(None, (given.augment or "").split(",")):
        name, _, number = part.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise OptionError(f"--augment {part!r}: NAME=NUMBER, as in time_shift=50") from None
    return found
