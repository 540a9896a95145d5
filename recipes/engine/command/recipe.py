"""A table of networks as a recipe: run it, show it, plot it."""

import argparse
import dataclasses
import difflib
import functools
import inspect
import json
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from ..data.sources import CROSS_VALIDATION, Source, Splits
from ..errors import Diverged, OptionError, RunError, one_line
from ..results import comparison, tables
from ..results.runs import Busy, Run, RunStore
from ..training import limits, machine
from ..training.hardware import Hardware
from ..training.objectives import Objective
from . import options


@dataclasses.dataclass(frozen=True)
class Row:
    """One network of a table: what sets it apart from the others in its build (``settings``) and in its
    training (``training``), and the paper's figures for it ({}: none; else any of mean, std, max, parameters,
    spikes)."""

    key: str
    name: str
    settings: dict
    paper: dict
    training: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the options ask for, checked."""

    given: argparse.Namespace
    rows: list[Row]
    seeds: list[int]
    source: Source
    data_dir: Path | None
    hardware: Hardware
    store: RunStore


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that was asked for and is not in the table, and why; without a run: a file that says of none."""

    run: Run | None
    why: Exception

    def __str__(self) -> str:
        if self.run is None:
            return f"left out: {self.why}"
        return f"{self.run.network} seed {self.run.seed} is not finished: {self.why}"


@dataclasses.dataclass(frozen=True)
class TableRecipe:
    """A table whose rows are networks trained on one data set.

    ``network(inputs, classes, **settings)`` builds a row's network from ``network_settings`` and the row's
    own settings, ``objective(network, hyper)`` what it is trained for, with ``training`` (any frozen dataclass
    with ``epochs`` and ``batch_size``) and the row's own changes to it as ``hyper``; all of them are plain
    numbers and words, kept with every result. ``smoke`` holds what ``--smoke`` changes: ``rows`` (keys; without it
    all), ``seeds``, ``threads``, some of ``training``, some of ``network``. ``figures`` names functions of
    :mod:`recipes.engine.results.plots`. ``paper_instead`` gives the paper's numbers where those here are others.
    """

    name: str
    title: str
    source: str
    paper_data: str
    paper_protocol: str
    rows: tuple[Row, ...]
    network: Callable[..., nn.Module]
    network_settings: dict
    training: Any
    objective: type[Objective]
    source_of_data: Source
    seeds: int
    protocol: str
    smoke: dict
    figures: tuple[str, ...] = ("accuracy", "learning_curves")
    paper_instead: dict[str, str] = dataclasses.field(default_factory=dict)

    # ------------------------------------------------------------------------------------------- command line

    @property
    def paper_used(self) -> str:
        """What ``--help`` says of the paper."""
        lines = [
            f"{self.source}",
            f"The paper used: {self.paper_data}, {self.paper_protocol}.",
            "The numbers here are the paper's" + (" but for those in the last line:" if self.paper_instead else ":"),
            f"  seeds {self.seeds}",
        ]
        for part in (dataclasses.asdict(self.training), self.network_settings, *self.source_of_data.settings.values()):
            lines.append("  " + ", ".join(f"{name} {value}" for name, value in part.items()))
        if self.paper_instead:
            lines.append("The paper instead: " + ", ".join(f"{name} {value}" for name, value in self.paper_instead.items()))
        width = max(len(row.key) for row in self.rows) + 2
        lines += ["Networks (--only):"] + [f"  {row.key:{width}}{row.name}" for row in self.rows]
        return "\n".join(lines)

    @property
    def default_out(self) -> str:
        return f"results/{self.name}"

    def add_options(self, parser: argparse.ArgumentParser, *others: "TableRecipe") -> None:
        """The options of this recipe, and of ``others`` that share its command."""
        recipes = (self, *others)
        sources = {type(recipe.source_of_data): recipe.source_of_data for recipe in reversed(recipes)}
        folders = dict.fromkeys(recipe.source_of_data.folder for recipe in recipes)
        folder = None if None in folders else "; or ".join(folders)
        options.add_data(parser, folder, *(recipe.source_of_data.published for recipe in recipes))
        epochs, batch_size = (
            " / ".join(str(getattr(recipe.training, name)) for recipe in recipes) for name in ("epochs", "batch_size")
        )
        options.add_training(parser, epochs, batch_size, self.protocol)
        for source in sources.values():
            source.add_options(parser)
        options.add_common(parser, *(recipe.default_out for recipe in recipes))
        parser.add_argument("--only", metavar="NETWORK,...", help="these networks of the table alone")

    def _rows(self, given: argparse.Namespace) -> list[Row]:
        if given.only is None:
            shown = self.smoke.get("rows") if given.smoke else None
            return [row for row in self.rows if shown is None or row.key in shown]
        wanted = [key.strip() for key in given.only.split(",")]
        known = {row.key: row for row in self.rows}
        for key in wanted:
            if key not in known:
                raise OptionError(f"--only {key}: unknown network; choose from {', '.join(known)}")
        return [row for row in self.rows if row.key in wanted]

    def _source(self, given: argparse.Namespace) -> tuple[Source, Path | None]:
        """Where the samples of ``run`` come from (no folder: generated, or to be downloaded); an error where the options
        do not fit together."""
        source = self.source_of_data.with_options(given)
        if given.smoke:
            if given.data_dir:
                raise OptionError("--smoke makes its own data; drop --data-dir, or drop --smoke")
            return source.smoke()
        self._check_generated(given, source)
        if source.folder is None:
            return source, None
        if given.data_dir is None and source.published is None:
            raise OptionError(f"--data-dir is missing: {source.folder} (--smoke needs none)")
        elif given.data_dir is not None:
            source.find(given.data_dir)
        return source, given.data_dir

    def _check_generated(self, given: argparse.Namespace, source: Source) -> None:
        if source.folder is None and given.data_dir:
            raise OptionError(f"--data-dir {given.data_dir}: {self.name} generates its data; drop it")

    def _loader(self, given: argparse.Namespace, source: Source, data_dir: Path | None) -> Callable[[], Splits]:
        """Loads the data that were asked for; downloads them first where they are not there."""
        data_dir = data_dir or source.download(given.offline)
        return functools.partial(source.load, data_dir, given.protocol or self.protocol)

    def load(self, given: argparse.Namespace) -> Splits:
        """The data that ``run`` trains on."""
        return self._loader(given, *self._source(given))()

    def _hyper(self, row: Row, given: argparse.Namespace) -> Any:
        """How the row is trained: as the paper, as the row, as ``--smoke``, as the options say; the last counts."""
        smoke = self.smoke.get("training", {}) if given.smoke else {}
        changes = row.training | smoke | self._changes(given)["training"]
        asked = {"epochs": given.epochs, "batch_size": given.batch_size}
        try:
            return dataclasses.replace(self.training, **changes | {k: v for k, v in asked.items() if v})
        except ValueError as error:
            raise OptionError(f"--set: {error}") from error

    @property
    def _numbers(self) -> dict[str, dict[str, tuple[Any, Any]]]:
        """(value, annotated type) of every number and word that ``--set`` can change: all arguments of the network, all
        fields of the training."""
        of_network = {
            argument.name: argument.default
            for argument in inspect.signature(self.network).parameters.values()
            if argument.kind is argument.KEYWORD_ONLY
        }
        builder = self.network.__init__ if isinstance(self.network, type) else self.network
        values = {"network": of_network | self.network_settings, "training": dataclasses.asdict(self.training)}
        types = {"network": typing.get_type_hints(builder), "training": typing.get_type_hints(type(self.training))}
        return {part: {name: (value, types[part][name]) for name, value in of.items()} for part, of in values.items()}

    def settings_of(self, row: Row) -> dict[str, dict]:
        """All settings of a row, and of the data, as the recipe has them: without ``--smoke`` or any other option."""
        values = {part: {name: value for name, (value, _) in of.items()} for part, of in self._numbers.items()}
        return self.source_of_data.settings | {
            "network": values["network"] | row.settings,
            "training": values["training"] | row.training,
        }

    def _changes(self, given: argparse.Namespace) -> dict[str, dict]:
        """What ``--set`` asks for, of the network and of the training."""
        known, changes = self._numbers, {"network": {}, "training": {}}
        for name, value in given.set:
            parts = [part for part, numbers in known.items() if name in numbers]
            if not parts:
                choices = sorted({name for numbers in known.values() for name in numbers})
                nearest = difflib.get_close_matches(name, choices, 1)
                hint = f" (did you mean {nearest[0]}?)" if nearest else ""
                raise OptionError(f"--set {name}: no such setting; choose from {', '.join(choices)}{hint}")
            if name in ("epochs", "batch_size"):
                raise OptionError(f"--set {name}: use --{name.replace('_', '-')}")
            if "network" in parts and any(name in row.settings for row in self.rows):
                raise OptionError(f"--set {name}: the networks of this table differ in it; change it in the recipe")
            for part in parts:
                before, kind = known[part][name]
                if len({json.dumps(row.training.get(name, before)) for row in self._rows(given)}) > 1:
                    raise OptionError(
                        f"--set {name}: the networks of this table differ in it; choose some that agree with --only, or "
                        "change it in the recipe"
                    )
                if not options.fits(value, kind):
                    needed = _needed(name, value, before, kind)
                    raise OptionError(f"--set {name}={json.dumps(value)}: needs {needed} (default {json.dumps(before)})")
                try:
                    limits.check({name: value})
                except ValueError as error:
                    raise OptionError(f"--set {name}={json.dumps(value)}: {error}") from error
                changes[part][name] = value
        return changes

    def _check_changes(self, given: argparse.Namespace, runs: list[Run], splits: Splits) -> None:
        """Build what ``--set`` has changed and show it one sample, before any training: what a network or an optimizer
        refuses is an :class:`OptionError`."""
        if not given.set:
            return
        sample = splits.train.batch(np.arange(1), np.random.default_rng(0))
        for settings in {json.dumps(run.settings, sort_keys=True): run.settings for run in runs}.values():
            try:
                objective = self.build(splits.inputs, splits.classes, settings)
                objective.optimizer()
                objective.network.eval()
                objective.measure(*sample)
            except (ValueError, TypeError, RuntimeError, MemoryError, ArithmeticError, AssertionError) as error:
                what = " ".join(f"--set {name}={json.dumps(value)}" for name, value in given.set)
                raise OptionError(f"{what}: {one_line(error, 400)}") from error

    def out(self, given: argparse.Namespace) -> Path:
        return given.out or Path(self.default_out + ("-smoke" if given.smoke else ""))

    # ------------------------------------------------------------------------------------------------ actions

    def run(self, given: argparse.Namespace) -> int:
        """Train what is not finished yet, then show and write the table and its plots; 1 if a run failed. Runs that other
        processes are training are left to them."""
        finished, failed = self.train(given)
        if finished:
            self._show(finished, failed, self.out(given), plot=True)
        return 1 if failed else 0

    def train(self, given: argparse.Namespace) -> tuple[list[dict], list[Failure]]:
        """Train what is not finished yet; the results of all that the options ask for and that are finished, and the runs
        that failed: diverged, or with files that cannot be used."""
        plan = self.plan(given, self.seeds)
        runs, failed = self.train_on(plan, self._loader(given, plan.source, plan.data_dir))
        usable = [run for run in runs if run not in [failure.run for failure in failed]]
        finished = [result for run in usable if (result := plan.store.finished(run))]
        if not finished and not failed:
            print("Nothing finished yet: every run is being trained by another process.")
        return finished, failed

    def tune(self, given: argparse.Namespace) -> int:
        """Cross-validation over the training speakers: :mod:`recipes.engine.command.tuning`."""
        from . import tuning

        return tuning.tune(self, given)

    def plan(self, given: argparse.Namespace, seeds: int) -> Plan:
        """Raises :class:`OptionError` for what cannot be done, before any data are read. ``seeds``: how many, unless the
        options say."""
        rows = self._rows(given)
        smoke = self.smoke if given.smoke else {}
        if "threads" in smoke and not given.threads:
            torch.set_num_threads(smoke["threads"])  # tiny networks are slower on more
        source, data_dir = self._source(given)
        self._changes(given)
        hardware = Hardware.chosen(given, self.objective)
        options.check_tensorboard(given)
        smallest = min(self._hyper(row, given).batch_size for row in rows)
        if smallest < hardware.devices:
            raise OptionError(f"--devices {hardware.devices}: batches of {smallest} samples are too small to divide")
        numbers = given.seeds or list(range(smoke.get("seeds", seeds)))
        store = RunStore(options.writable_folder(self.out(given)))
        return Plan(given, rows, numbers, source, data_dir, hardware, store)

    def train_on(self, plan: Plan, load: Callable[[], Splits]) -> tuple[list[Run], list[Failure]]:
        """Train what is planned and not finished yet on what ``load`` loads (any process, by pickle); all runs of the plan,
        and those that failed."""
        splits, given = load(), plan.given
        for row in plan.rows:
            plan.hardware.check(splits, self._hyper(row, given).batch_size)
        runs = [self._as_run(row, seed, given, plan.source, splits) for seed in plan.seeds for row in plan.rows]
        self._check_changes(given, runs, splits)
        how = {"hardware": plan.hardware, "tensorboard": given.tensorboard, "reload": load}
        return runs, self._train_all(runs, splits, plan.store, how)

    def table(self, given: argparse.Namespace) -> int:
        """Show and write the table of the finished runs; 1 if some could not be read."""
        runs, failed = self.finished(given)
        self._show(runs, failed, self.out(given), plot=False)
        return 1 if failed else 0

    def plot(self, given: argparse.Namespace) -> int:
        """Draw the finished runs; 1 if some could not be read."""
        from ..results import plots

        runs, failed = self.finished(given)
        tables.announce(plots.write(self, runs, self.out(given)))
        return 1 if failed else 0

    def _as_run(self, row: Row, seed: int, given: argparse.Namespace, source: Source, splits: Splits) -> Run:
        smoke = self.smoke.get("network", {}) if given.smoke else {}
        settings = {
            "protocol": splits.protocol,
            "data": f"{splits.name} {splits.digest}",
            **source.settings,
            "network": self.network_settings | smoke | self._changes(given)["network"] | row.settings,
            "training": dataclasses.asdict(self._hyper(row, given)),
        }
        if given.precision not in (None, "32"):
            settings["precision"] = given.precision
        if splits.left_out:
            settings["left_out"] = list(splits.left_out)
        return Run(self.name, row.key, seed, json.loads(json.dumps(settings)))

    def _train_all(self, runs: list[Run], splits: Splits, store: RunStore, how: dict) -> list[Failure]:
        """Train those that are not finished; those that failed, which keep none of the others from being trained."""
        done, failed = self._kept(runs, store)
        settled = [*done, *(failure.run for failure in failed)]
        with _progress(len(runs)) as bar:
            task = bar.add_task(self.name, total=len(runs), completed=len(done))
            for run in runs:
                if run in settled:
                    continue
                before = bar.tasks[task].completed

                def report(share: float, epoch: dict | None, run=run, before=before) -> None:
                    bar.update(task, description=_progress_text(run, epoch), completed=before + share)

                try:
                    with store.claimed(run) as folder:
                        if store.finished(run) is None:
                            store.finish(run, self._train(run, splits, folder, report, how))
                        said = _line(store.finished(run))
                except Busy as busy:
                    said = f"left out: {busy}"
                except (Diverged, RunError) as error:
                    failed.append(Failure(run, error))
                    said = str(failed[-1])
                    bar.update(task, completed=before)
                else:
                    bar.update(task, completed=before + 1)
                bar.console.print(said, highlight=False, soft_wrap=True, markup=False)
        return failed

    def _kept(self, runs: list[Run], store: RunStore) -> tuple[list[Run], list[Failure]]:
        """Those that are finished and those whose results are damaged, after saying so."""
        done: dict[str, tuple[Run, dict]] = {}
        failed: list[Failure] = []
        for run in runs:
            try:
                if result := store.finished(run):
                    done[run.slug] = run, result
            except RunError as error:
                failed.append(Failure(run, error))
                print(failed[-1])
        self._mention([result for _, result in done.values()], store)
        return [run for run, _ in done.values()], failed

    def build(self, inputs: int, classes: int, settings: dict) -> Objective:
        """The network of a run with these settings, and what it is trained for."""
        network = self.network(inputs, classes, **settings["network"])
        return self.objective(network, type(self.training)(**settings["training"]))

    def _train(self, run: Run, splits: Splits, folder: Path, report, how: dict) -> dict:
        from ..training import trainer  # Lightning: seconds that a table or --help need not pay

        build = functools.partial(self.build, splits.inputs, splits.classes, run.settings)
        result = trainer.train(build, splits, run.seed, folder, report, **how)
        sizes = {name: len(part) for name, part in (("train", splits.train), *splits.evaluated.items())}
        facts = {
            "name": splits.name,
            "samples": sizes,
            "inputs": splits.inputs,
            "classes": splits.classes,
            "validation": splits.validation,
        }
        return {"data": facts} | result

    def _mention(self, done: list[dict], store: RunStore) -> None:
        if not done:
            return
        are = "is" if len(done) == 1 else "are"
        print(f"{tables.counted(len(done), 'finished run')} in {store.folder} {are} kept and not repeated.")
        ours = machine.versions().get("snn_delay_plugins")
        others = {result["versions"].get("snn_delay_plugins") for result in done} - {ours}
        if others:
            print(f"Some were made with snn_delay_plugins {', '.join(map(str, others))}; this is {ours}.")

    def finished(self, given: argparse.Namespace) -> tuple[list[dict], list[Failure]]:
        """The finished runs that the options describe, and the results in the same folder that cannot be read, after
        saying so. The runs must agree on all settings but network and seed."""
        out, damaged = self.out(given), []
        keys = {row.key for row in self._rows(given)}
        runs = [run for run in RunStore(out).results(self.name, damaged) if run["network"] in keys]
        runs = [run for run in runs if run["settings"]["protocol"] != CROSS_VALIDATION]
        source = self.source_of_data.with_options(given)
        self._check_generated(given, source)
        if given.data_dir:
            name = source.find(given.data_dir)
            runs = [run for run in runs if run["data"]["name"] == name]
        runs = [run for run in runs if source.matches(given, run["settings"])]
        numbers = self._numbers
        for part, changes in self._changes(given).items():
            for name, value in changes.items():
                default, _ = numbers[part][name]
                runs = [run for run in runs if run["settings"][part].get(name, default) == value]
        for value, read in (
            (given.protocol, lambda s: s["protocol"]),
            (given.precision, lambda s: s.get("precision", "32")),
            (given.epochs, lambda s: s["training"]["epochs"]),
            (given.batch_size, lambda s: s["training"]["batch_size"]),
        ):
            runs = [run for run in runs if value is None or read(run["settings"]) == value]
        runs = [run for run in runs if given.seeds is None or run["seed"] in given.seeds]
        if not runs and damaged:
            raise damaged[0]
        if not runs:
            raise OptionError(f"no finished runs with these options in {out}; make them with: {options.run_of(given)}")
        of_each = [comparison.of_network(runs, key) for key in sorted(keys)]
        for alike in ([comparison.without_row(self, run) for run in runs], *of_each):
            if differ := comparison.differences(alike):
                raise OptionError(
                    f"{out} holds runs with different settings ({differ}); "
                    "choose with --epochs, --protocol, --set, ... or --out"
                )
        failed = [Failure(None, error) for error in damaged]
        for failure in failed:
            print(failure, file=sys.stderr)
        return runs, failed

    def _show(self, runs: list[dict], failed: list[Failure], out: Path, plot: bool) -> None:
        of_failed = {failure.run.network for failure in failed if failure.run}
        sheet = tables.sheet(self, runs, of_failed).with_remarks(map(str, failed))
        tables.show(sheet)
        paths = sheet.write(out)
        if plot:
            from ..results import plots

            paths += plots.write(self, runs, out)
        tables.announce(paths)


def _progress(runs: int) -> Progress:
    done = TextColumn(f"{{task.completed:.2f}}/{tables.counted(runs, 'run')}")
    return Progress(TextColumn("{task.description}"), BarColumn(), done, TimeElapsedColumn(), TimeRemainingColumn())


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


def _progress_text(run: Run, epoch: dict | None) -> str:
    if epoch is None:
        return f"{run.network} seed {run.seed} epoch 1"
    shown = next(f"{name} {epoch[f'{name}_accuracy']:.1f} %" for name in ("valid", "test") if f"{name}_accuracy" in epoch)
    return f"{run.network} seed {run.seed} epoch {epoch['epoch'] + 1} ({shown})"


def _line(result: dict) -> str:
    protocol = result["settings"]["protocol"]
    chosen = result["best"][protocol]
    sets = [f"{name} {chosen[f'{name}_accuracy']:.1f} %" for name in ("valid", "test") if f"{name}_accuracy" in chosen]
    return (
        f"{result['network']} seed {result['seed']}: {', '.join(sets)} "
        f"at epoch {chosen['epoch']} ({protocol}), {result['seconds_per_epoch']:.2f} s per epoch"
    )
