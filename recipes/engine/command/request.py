"""What a command line asks of a table: parsed and checked once, before any data are read."""

import argparse
import dataclasses
import difflib
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..data.sources import Source
from ..errors import OptionError
from ..training import limits
from . import options

if TYPE_CHECKING:
    from .recipe import Row, TableRecipe

Part = Literal["network", "training"]


@dataclasses.dataclass(frozen=True)
class Request:
    """``None`` is what the options leave to the recipe, or to this machine.

    Attributes:
        rows: the networks that are asked for.
        source: the recipe's, as its own options want it; ``source_options`` are those options.
        data_dir: the folder that was named, not looked at yet.
        out: the folder of results.
        changes: what ``--set`` changes of the network and of the training; ``changed`` is that as it was written.
        again: the command that makes what ``table`` and ``plot`` with these options show.
    """

    rows: tuple["Row", ...]
    source: Source
    source_options: argparse.Namespace
    data_dir: Path | None
    offline: bool
    out: Path
    smoke: bool
    seeds: tuple[int, ...] | None
    epochs: int | None
    batch_size: int | None
    protocol: Literal["paper", "clean"] | None
    changes: dict[Part, dict[str, Any]]
    changed: str
    accelerator: Literal["auto", "cpu", "gpu"] | None
    devices: int | None
    num_nodes: int | None
    precision: Literal["32", "bf16-mixed", "16-mixed"] | None
    threads: int | None
    tensorboard: bool
    again: str


def parse(recipe: "TableRecipe", given: argparse.Namespace, networks: tuple[str, ...] | None = None) -> Request:
    """``networks``: the keys of those that are asked for without ``--only``; None: all, or those of ``--smoke``. Raises
    :class:`OptionError` for what does not fit the recipe."""
    rows, source = _rows(recipe, given, networks), recipe.source_of_data
    return Request(
        rows=rows,
        source=source.with_options(given),
        source_options=argparse.Namespace(**{name: getattr(given, name) for name in options.of_source(source)}),
        data_dir=given.data_dir,
        offline=given.offline,
        out=given.out or Path(recipe.default_out + ("-smoke" if given.smoke else "")),
        smoke=given.smoke,
        seeds=None if given.seeds is None else tuple(given.seeds),
        epochs=given.epochs,
        batch_size=given.batch_size,
        protocol=given.protocol,
        changes=_changes(recipe, rows, given.set),
        changed=" ".join(f"--set {name}={json.dumps(value)}" for name, value in given.set),
        accelerator=given.accelerator,
        devices=given.devices,
        num_nodes=given.num_nodes,
        precision=given.precision,
        threads=given.threads,
        tensorboard=given.tensorboard,
        again=options.run_of(given),
    )


def _rows(recipe: "TableRecipe", given: argparse.Namespace, networks: tuple[str, ...] | None) -> tuple["Row", ...]:
    if given.only or (given.only is not None and networks is None):
        networks = tuple(key.strip() for key in given.only.split(","))
    if networks is None:
        shown = recipe.smoke.get("rows") if given.smoke else None
        return tuple(row for row in recipe.rows if shown is None or row.key in shown)
    known = [row.key for row in recipe.rows]
    for key in networks:
        if key not in known:
            raise OptionError(f"--only {key}: unknown network; choose from {', '.join(known)}")
    return tuple(row for row in recipe.rows if row.key in networks)


def _changes(recipe: "TableRecipe", rows: tuple["Row", ...], asked: list[tuple[str, Any]]) -> dict[Part, dict[str, Any]]:
    """What ``--set`` asks for, of the network and of the training."""
    known = recipe.numbers
    changes: dict[Part, dict[str, Any]] = {"network": {}, "training": {}}
    for name, value in asked:
        parts = [part for part, numbers in known.items() if name in numbers]
        if not parts:
            raise OptionError(f"--set {name}: no such setting; {_choices(name, known)}")
        if name in ("epochs", "batch_size"):
            raise OptionError(f"--set {name}: use --{name.replace('_', '-')}")
        if "network" in parts and any(name in row.settings for row in recipe.rows):
            raise OptionError(f"--set {name}: the networks of this table differ in it; change it in the recipe")
        for part in parts:
            before, kind = known[part][name]
            if len({json.dumps(row.training.get(name, before)) for row in rows}) > 1:
                raise OptionError(
                    f"--set {name}: the networks of this table differ in it; choose some that agree with --only, or "
                    "change it in the recipe"
                )
            _check(name, value, before, kind)
            changes[part][name] = value
    return changes


def _choices(name: str, known: dict[Part, dict[str, tuple[Any, Any]]]) -> str:
    choices = sorted({name for numbers in known.values() for name in numbers})
    nearest = difflib.get_close_matches(name, choices, 1)
    return f"choose from {', '.join(choices)}" + (f" (did you mean {nearest[0]}?)" if nearest else "")


def _check(name: str, value: object, before: object, kind: Any) -> None:
    """Raises :class:`OptionError` for a value of another type than the setting's, or out of its bounds."""
    if not options.fits(value, kind):
        needed = _needed(name, value, before, kind)
        raise OptionError(f"--set {name}={json.dumps(value)}: needs {needed} (default {json.dumps(before)})")
    try:
        limits.check({name: value})
    except ValueError as error:
        raise OptionError(f"--set {name}={json.dumps(value)}: {error}") from error


def _needed(name: str, value: object, before: object, kind: Any) -> str:
    """What a setting of this annotated type must be; of a list with an example: of what was given, where that would do,
    else as it was before."""
    if not isinstance(before, list | tuple):
        return inspect.formatannotation(kind)
    likely = [value] * max(len(before), 1)
    try:
        limits.check({name: likely})
    except ValueError:
        likely = before
    example = likely if options.fits(likely, kind) else before
    return f"a list, as {json.dumps(example, separators=(',', ':'))}"
