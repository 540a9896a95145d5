"""``export RUN``: a trained network for deployment, in a folder that is whole or not there."""

import argparse
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.sources import CROSS_VALIDATION, Part, Source, Splits
from ..errors import DataError, OptionError
from ..files import atomic, cache
from ..results import models, synapse_tables, tables
from ..training.connections import Connection, connections
from . import model_card, options, trained

if TYPE_CHECKING:
    from .recipe import TableRecipe

SPLITS = ("valid", "test")
TABLES = ("csv", "npz")


@dataclasses.dataclass(frozen=True)
class Measured:
    """Samples on which accuracies are measured."""

    split: str
    part: Part
    data: str

    def accuracy(self, network: trained.Trained) -> float:
        probabilities, labels = network.predict_part(self.part)
        return 100.0 * float((probabilities.argmax(1) == labels).double().mean())


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run, OUT/runs/NETWORK_seedN_HASH")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to make (default RUN/exported)")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="the data of the run, for the accuracy (default: what is downloaded)"
    )
    parser.add_argument(
        "--split",
        choices=(*SPLITS, "none"),
        help="on which the accuracy is measured before and after (default valid; test without one); none: it is not",
    )
    parser.add_argument("--weight-bits", type=int, metavar="N", help="also put the weights of each layer into 2 to 16 bits")
    parser.add_argument(
        "--dt", type=float, metavar="MS", help="step of the delays of networks in continuous time (default: as trained)"
    )
    parser.add_argument(
        "--table",
        choices=TABLES,
        help=f"form of the table of synapses (default csv up to {synapse_tables.MOST_IN_CSV} synapses, npz beyond)",
    )
    parser.add_argument(
        "--model", action="store_true", help="a model to hand on: weights and delays as trained, a card, and no tables"
    )
    parser.add_argument("--title", metavar="TEXT", help="of the card")
    parser.add_argument("--data-licence", metavar="TEXT", help="of the data of the training, for the card")


def export(given: argparse.Namespace, recipe_of: "Mapping[str, TableRecipe]") -> int:
    """Raises :class:`DataError` for a run that cannot be used and :class:`OptionError` for a network or options that do not
    fit; nothing is written then."""
    _check(given)
    out = (given.out or given.run / "exported").absolute()
    run = trained.load(given.run, recipe_of)
    _check_place(out)
    measured = None if given.split == "none" else _measured(run, given)
    found = connections(run.network, given.dt)
    if given.dt is not None and all(one.unit is None for one in found):
        raise OptionError(f"--dt {given.dt:g}: the delays of {run.result['network']} are in steps already")
    accuracy = list(_changed(run, found, measured, given))
    described = models.describe(run.result) | {
        "accuracy": None if measured is None else _facts(measured, accuracy),
        "delays": "as trained" if given.model else "whole",
        "weight_bits": given.weight_bits,
        "layers": [_layer(one) for one in found],
    }
    with atomic.locked(_lock_of(out)), atomic.replacing_folder(out) as folder:
        models.write(folder, described, run.network)
        if not given.model:
            _write_tables(folder, found, given.table)
        card = model_card.text(
            described,
            title=given.title or out.name,
            what=recipe_of[run.result["recipe"]].title,
            name=out.name,
            licence=given.data_licence,
            folder=folder,
        )
        (folder / models.CARD).write_text(card, encoding="utf-8")
    for what, value in accuracy:
        if measured is not None:
            print(f"{what}: {value:.2f} % of {len(measured.part)} samples ({measured.split})")
    tables.announce(sorted(path for path in out.iterdir() if path.is_file()))
    return 0


def _check(given: argparse.Namespace) -> None:
    if given.weight_bits is not None and not 2 <= given.weight_bits <= 16:
        raise OptionError(f"--weight-bits {given.weight_bits}: 2 to 16")
    if given.dt is not None and not 1e-6 <= given.dt <= 1e6:
        raise OptionError(f"--dt {given.dt}: a positive number of ms")
    if given.model and (given.weight_bits or given.dt or given.table):
        raise OptionError("--model hands on what was trained: drop --weight-bits, --dt and --table")
    if given.split == "none" and given.data_dir:
        raise OptionError("--data-dir is for the accuracy: drop it, or --split none")


def _check_place(out: Path) -> None:
    """Only what was exported is replaced."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OptionError(f"--out {out}: there is something else, not a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / models.FILE).exists():
        raise OptionError(f"--out {out}: a folder with other files in it; name a new one")
    if (out / "result.json").exists():
        raise OptionError(f"--out {out}: the folder of a run; name another")


def _lock_of(out: Path) -> Path:
    """In the cache: none is left beside what is exported."""
    return cache.folder() / "exports" / hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]


def _changed(
    run: trained.Trained, found: list[Connection], measured: Measured | None, given: argparse.Namespace
) -> Iterator[tuple[str, float]]:
    """Change the network as it is asked for, and what it reaches before and after each change."""

    def reached(what: str) -> tuple[str, float]:
        return what, float("nan") if measured is None else measured.accuracy(run)

    yield reached("as trained")
    if given.model:
        return
    for one in found:
        one.round_delays()
    yield reached("whole delays")
    if given.weight_bits:
        for one in found:
            one.quantise(given.weight_bits)
        yield reached(f"whole delays, weights of {given.weight_bits} bits")


def _facts(measured: Measured, accuracy: list[tuple[str, float]]) -> dict:
    samples = len(measured.part)
    return {"split": measured.split, "samples": samples, "data": measured.data, "percent": dict(accuracy)}


def _layer(one: Connection) -> dict:
    synapses = one.synapses()
    facts = {
        "name": one.name,
        "senders": one.weight.shape[1],
        "receivers": one.weight.shape[0],
        "synapses": len(synapses.sender),
        "recurrent": one.recurrent,
        "longest_delay": int(synapses.delay.max(initial=0)),
        "step_ms": one.unit,
        "weight_step": one.scale,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _write_tables(folder: Path, found: list[Connection], form: str | None) -> None:
    synapses = [one.synapses() for one in found]
    many = sum(len(layer.sender) for layer in synapses) > synapse_tables.MOST_IN_CSV
    synapse_tables.write(folder / f"synapses.{form or ('npz' if many else 'csv')}", synapses)
    of_neurons = [one.neurons() for one in found if not one.recurrent]
    synapse_tables.write_neurons(folder / "neurons.csv", of_neurons)


# ------------------------------------------------------------------------------------------------------------- data


def _measured(run: trained.Trained, given: argparse.Namespace) -> Measured:
    """Raises :class:`OptionError` where the data are not at hand, or have no such split."""
    splits = _splits(run, given.data_dir)
    known = splits.evaluated
    split = given.split or next(name for name in SPLITS if name in known)
    if split not in known:
        raise OptionError(f"--split {split}: {splits.name} under protocol {splits.protocol} has {', '.join(known)}")
    data = f"{splits.name} {splits.digest}"
    if data != run.result["settings"]["data"]:
        print(f"These data, {data}, are not those of the training, {run.result['settings']['data']}.")
    if (splits.inputs, splits.classes) != (run.result["data"]["inputs"], run.classes):
        raise OptionError(
            f"--data-dir: {splits.inputs} channels and {splits.classes} classes; the network has "
            f"{run.result['data']['inputs']} and {run.classes}"
        )
    return Measured(split, known[split], data)


def _splits(run: trained.Trained, data_dir: Path | None) -> Splits:
    kept = options.of_source(run.source) | {"allow_silence": True}  # what the run was trained on is meant
    source, settings = run.source.with_options(argparse.Namespace(**kept)), run.result["settings"]
    folder = data_dir or _folder_of(source, run.result["data"]["name"])
    if settings["protocol"] == CROSS_VALIDATION:
        return source.load_fold(folder, tuple(settings["left_out"]))
    return source.load(folder, settings["protocol"])


def _folder_of(source: Source, name: str) -> Path | None:
    """Where the data of this name are, without being told. Raises :class:`OptionError`."""
    if source.folder is None:
        return None
    try:
        found = source.download(forbidden=True)
        if found is not None and source.find(found) == name:
            return found
    except DataError:
        pass
    generated = source.smoke()[1]
    if generated is not None and source.find(generated) == name:
        return generated
    raise OptionError(f"--data-dir is missing: {name}, on which the accuracy is measured (--split none: without it)")
