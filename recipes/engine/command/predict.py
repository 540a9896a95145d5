"""``predict RUN FILE...``: what a trained network says of recordings."""

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table

from ..data.sources import UNKNOWN
from ..errors import DataError
from ..files import atomic
from ..results import tables
from . import trained

if TYPE_CHECKING:
    from .recipe import TableRecipe

MOST_SHOWN = 40  # samples on the screen; the CSV has all


class Prediction(NamedTuple):
    """Of one sample of one file."""

    file: Path
    sample: int
    probabilities: list[float]
    names: tuple[str, ...]
    label: int

    @property
    def best(self) -> int:
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

    def name(self, number: int) -> str:
        """Of a class; its number where the file has no names."""
        return self.names[number] if number < len(self.names) else str(number)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="folder of a finished run, OUT/runs/NETWORK_seedN_HASH, or of an exported model",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="recordings as the run was trained on: in SHD's format (.h5, .h5.gz; or .npz, .npy, .csv of times and units), "
        "audio (.wav, .flac), or Braille (.npz)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all probabilities there")
    parser.add_argument("--allow-silence", action="store_true", help="predict samples without a spike, too")


def predict(given: argparse.Namespace, recipe_of: "Mapping[str, TableRecipe]") -> int:
    """Predict every file that can be read; 1 where one could not be. Raises :class:`DataError` for a run that is none."""
    run = trained.load(given.run, recipe_of)
    found: list[Prediction] = []
    failed = 0
    for file in given.files:
        try:
            found += _of_file(run, file, given.allow_silence)
        except (DataError, OSError) as error:
            failed += 1
            said = str(error) if str(file) in str(error) else f"{file}: {error}"
            print(f"left out: {said}", file=sys.stderr)
    if found:
        _show(found)
    if given.csv:
        atomic.write_text(given.csv, _as_csv(found, run.classes))
        tables.announce([given.csv])
    return 1 if failed else 0


def _of_file(run: trained.Trained, file: Path, allow_silence: bool) -> Iterator[Prediction]:
    part = run.recordings(file, allow_silence)
    probabilities, labels = run.predict_part(part)
    of_file = getattr(part, "class_names", ())
    names = run.class_names or of_file
    if of_file and of_file != names:
        print(f"{file}: its classes have other names than those of the training; names are the training's", file=sys.stderr)
    of_samples = zip(probabilities.tolist(), labels.tolist(), strict=True)
    return (Prediction(file, number, of, names, label) for number, (of, label) in enumerate(of_samples))


def _show(found: list[Prediction]) -> None:
    table = Table("file", "sample", "class", "probability", "second", "probability", "label")
    for one in found[:MOST_SHOWN]:
        order = sorted(range(len(one.probabilities)), key=lambda c: -one.probabilities[c])[:2]
        shown = [text for c in order for text in (one.name(c), f"{one.probabilities[c]:.3f}")] + ["", ""]
        table.add_row(one.file.name, str(one.sample), *shown[:4], "" if one.label == UNKNOWN else one.name(one.label))
    console = Console(markup=False, highlight=False)
    console.print(table)
    if len(found) > MOST_SHOWN:
        console.print(f"{len(found) - MOST_SHOWN} more samples; --csv FILE writes all.")
    known = [one for one in found if one.label != UNKNOWN]
    if known:
        right = sum(one.best == one.label for one in known)
        console.print(f"{right} of {tables.counted(len(known), 'labelled sample')} right: {100 * right / len(known):.1f} %")


def _as_csv(found: list[Prediction], classes: int) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = next((one for one in found), Prediction(Path(), 0, [], (), UNKNOWN))
    heads = [f"p({names.name(c)})" for c in range(classes)]
    table.writerow(["file", "sample", "predicted", "name", "probability", "label", *heads])
    for one in found:
        label = "" if one.label == UNKNOWN else one.label
        numbers = [f"{p:.6g}" for p in one.probabilities]
        table.writerow([one.file, one.sample, one.best, one.name(one.best), numbers[one.best], label, *numbers])
    return text.getvalue()
