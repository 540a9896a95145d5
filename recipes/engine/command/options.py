"""Command-line options that mean the same in every recipe, checked before any work starts."""

import argparse
import functools
import importlib.util
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from ..data.sources import PROTOCOLS, Source
from ..errors import OptionError
from ..files import downloads
from ..files.downloads import Published
from .program import PROGRAM

ACCELERATORS = ("auto", "cpu", "gpu")
PRECISIONS = ("32", "bf16-mixed", "16-mixed")
MOST_SEEDS = 10_000
MOST_THREADS = 1024  # and processes


def positive(text: str, most: int = 1_000_000) -> int:
    number = _whole(text) or 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a whole number of at least 1")
    if number > most:
        raise argparse.ArgumentTypeError(f"{_short(text)} is more than {most}")
    return number


def seeds(text: str) -> list[int]:
    """Seeds 0, 1, 2 from "3"; these very ones from "0,4,9" or "4,"."""
    if "," not in text:
        if (number := _whole(text)) and number > MOST_SEEDS:
            raise argparse.ArgumentTypeError(
                f"{_short(text)} is more than {MOST_SEEDS} seeds (this one alone would be written with a comma behind it)"
            )
        return list(range(positive(text)))
    numbers = [_whole(part.strip()) for part in text.split(",") if part.strip()]
    if not numbers or None in numbers or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(
            f"{_short(text)} is neither a number of seeds nor a list of different ones like 0,1,2"
        )
    if max(numbers) >= 2**32:
        raise argparse.ArgumentTypeError(f"{_short(text)}: seeds are below {2**32}")
    return numbers


def finite(text: str) -> float:
    """A number of a size that a computation may begin with."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= 1e6:
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a number between -1e6 and 1e6")
    return number


_few = functools.partial(positive, most=MOST_THREADS)


def _whole(text: str) -> int | None:
    """None for what is not a whole number; numbers of many digits, which Python would not read, are only large."""
    return int(text[:100]) if text.isdecimal() else None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def setting(text: str) -> tuple[str, object]:
    """("learning_rate", 0.01) from "learning_rate=0.01"; values are JSON, and words where they are none."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{_short(text)} is not NAME=VALUE")

    def not_a_number(constant: str):
        raise argparse.ArgumentTypeError(f"{_short(text)}: {constant} is no setting; give a finite number")

    def number(digits: str) -> float:
        return float(digits) if math.isfinite(float(digits)) else not_a_number(digits)

    try:
        return name, json.loads(value, parse_constant=not_a_number, parse_float=number)
    except json.JSONDecodeError:
        return name, value
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        raise argparse.ArgumentTypeError(f"{_short(text)} is no setting") from error


def fits(value: object, kind: Any) -> bool:
    """Whether a JSON value can be an argument of this annotated type."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        if not isinstance(value, list) or (origin is tuple and ... not in parts and len(parts) != len(value)):
            return False
        return all(fits(item, parts[min(i, len(parts) - 1)]) for i, item in enumerate(value))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def add_common(parser: argparse.ArgumentParser, *out: str) -> None:
    """The options of every recipe: where results go, how much of the machine is used, and the quick look."""
    folder = " / ".join(out)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder for results (default {folder}; -smoke is added with --smoke)"
    )
    parser.add_argument("--threads", type=_few, metavar="N", help="processor threads (default: torch's choice)")
    parser.add_argument("--smoke", action="store_true", help="a quick look in under a minute, without any download")


def add_data(parser: argparse.ArgumentParser, folder: str | None, *published: Published | None) -> None:
    """The options of every recipe that reads data. ``folder`` says what --data-dir must hold (None: they are
    generated), ``published`` what is downloaded without it."""
    if folder is None:
        help_text = "not needed: these data are generated"
    else:
        help_text = folder
        places = [f"{data.name}, downloaded to {downloads.home() / data.name}" for data in published if data]
        if places:
            help_text += f" (default: {'; '.join(places)})"
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help=help_text.replace("%", "%%"))
    parser.add_argument(
        "--offline",
        action="store_true",
        help="download nothing: data that are not there are an error that says what to put where",
    )


def add_training(parser: argparse.ArgumentParser, epochs: str, batch_size: str, protocol: str) -> None:
    """The options of every recipe that trains; the last three are its defaults."""
    parser.add_argument(
        "--seeds", type=seeds, metavar="N", help="number of seeds, or a list like 0,1,2 (default as the paper)"
    )
    parser.add_argument("--epochs", type=positive, metavar="N", help=f"(default {epochs})")
    parser.add_argument("--batch-size", type=positive, metavar="N", help=f"(default {batch_size})")
    parser.add_argument(
        "--accelerator", choices=ACCELERATORS, help="(default auto: a GPU where there is one and the networks can use it)"
    )
    parser.add_argument(
        "--devices",
        type=_few,
        metavar="N",
        help="GPUs, or processes on the processor, among which every batch is divided (default 1)",
    )
    parser.add_argument(
        "--num-nodes",
        type=_few,
        metavar="N",
        help="machines with --devices each; torchrun or srun starts this command on all of them (default 1)",
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="(default 32)")
    parser.add_argument(
        "--tensorboard", action="store_true", help="also log every epoch for TensorBoard, beside each run's metrics.csv"
    )
    parser.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value of one of the settings shown below, or of any other argument of the network, such as "
        "learning_rate=0.001 or hidden=[64,64]; may be repeated",
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help=f"clean: choose the epoch on held-out samples; paper: as published (default {protocol})",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option of pictures that are drawn again without their runs."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="draw what this file of `table` or `run` holds, not the runs of a folder"
    )


CHOICES = ("only", "seeds", "epochs", "batch_size", "set", "protocol", "precision", "data_dir", "smoke")


def check_json(given: argparse.Namespace) -> None:
    """Raises :class:`OptionError` for what chooses among runs: a file is drawn as a whole."""
    for name in CHOICES:
        if given.json and getattr(given, name, None):
            raise OptionError(f"--json draws all that its file holds; leave out --{name.replace('_', '-')}")


def add_energy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--energy",
        action="store_true",
        help="also show the synaptic operations of a test sample, and their energy by the usual figures of 45 nm; run "
        "measures what has not been measured yet",
    )


def add_folds(parser: argparse.ArgumentParser) -> None:
    """The option of cross-validation alone."""
    parser.add_argument(
        "--folds",
        type=_groups,
        default=10,
        metavar="N|speakers",
        help="groups of training speakers, each left out once (default 10, as the EventProp paper: with ten speakers one "
        'each); "speakers": every one alone',
    )


def _groups(text: str) -> int:
    """How many; where there are fewer speakers, each is alone."""
    return 1_000_000 if text == "speakers" else positive(text)


def of_source(source: Source) -> dict[str, Any]:
    """The options of a source alone, and their defaults."""
    parser = argparse.ArgumentParser(add_help=False)
    source.add_options(parser)
    return vars(parser.parse_args([]))


def run_of(given: argparse.Namespace) -> str:
    """The command that makes what ``table`` and ``plot`` of these options show."""
    dataset = getattr(given, "dataset", None)
    return f"{PROGRAM} run {given.name}" + (f" --dataset {dataset}" if dataset else "")


def check_tensorboard(asked: bool) -> None:
    if asked and importlib.util.find_spec("tensorboard") is None:
        raise OptionError("--tensorboard: tensorboard is missing: pip install 'snn_delay_plugins[recipes]'")


def writable_folder(path: Path) -> Path:
    try:
        if path.is_symlink() and not path.exists():
            raise OptionError(f"--out {path}: a link that leads nowhere ({os.readlink(path)})")
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OptionError(f"--out {path}: a file, not a folder") from error
    except OSError as error:
        raise OptionError(f"--out {path}: {error.strerror.lower()}") from error
    if not os.access(path, os.W_OK):
        raise OptionError(f"--out {path}: not writable")
    return path
