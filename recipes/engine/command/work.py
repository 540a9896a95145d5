"""Training what a plan asks for and what is not there already."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.sources import Splits
from ..errors import Diverged, RunError
from ..results import tables
from ..results.runs import Busy, Run, RunStore
from ..training import machine
from ..training.hardware import Hardware
from .plan import Plan
from .progress import Bar

if TYPE_CHECKING:
    from .recipe import TableRecipe

SHARED_DISK = 60.0  # seconds until all nodes see what one has written; file systems keep what they know of a folder so long


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that was asked for and is not in the table, and why; without a run: a file that says of none."""

    run: Run | None
    why: Exception

    def __str__(self) -> str:
        if self.run is None:
            return f"left out: {self.why}"
        return f"{self.run.network} seed {self.run.seed} is not finished: {self.why}"


def finish(plan: Plan) -> tuple[list[dict], list[Failure]]:
    """Train what is not finished yet; the results of all that are asked for and finished, and the runs that failed:
    diverged, or with files that cannot be used; nothing of either where another process leads. Runs that other commands
    are training are left to them."""
    runs, failed = train(plan, lambda part: part.load)
    usable = [run for run in runs if run not in [failure.run for failure in failed]]
    finished = [result for run in usable if (result := plan.store.finished(run))]
    if not finished and not failed and plan.hardware.leads:
        print("Nothing finished yet: every run is being trained by another process.")
    return finished, failed


def train(plan: Plan, load_of: Callable[[Plan], Callable[[], Splits]]) -> tuple[list[Run], list[Failure]]:
    """Train what is planned and not finished yet; all runs of the plan, and those that failed, which keep none of the
    others from being trained. ``load_of(part)`` gives what loads (any process, by pickle) the samples that the rows of a
    part of the plan have in common. Where another process leads: what it says, and nothing of either."""
    runs, failed = [], []
    for part in plan.by_data:
        more = _train(part, load_of(part))
        runs, failed = runs + more[0], failed + more[1]
    return runs, failed


def _train(plan: Plan, load: Callable[[], Splits]) -> tuple[list[Run], list[Failure]]:
    splits = load()
    runs = plan.runs(splits)
    how = {"hardware": plan.hardware, "tensorboard": plan.request.tensorboard, "reload": load}
    if not plan.hardware.leads:
        _follow(plan, runs, splits, how)
        return [], []
    done, failed = _kept(runs, plan.store)
    settled = [*done, *(failure.run for failure in failed)]
    with plan.hardware.leading(), Bar(plan.recipe.name, len(runs), len(done)) as bar:
        for run in runs:
            if run in settled:
                continue
            before = bar.completed

            def report(share: float, epoch: dict | None, run=run, before=before) -> None:
                bar.update(before + share, _progress_text(run, epoch))

            try:
                with plan.store.claimed(run) as folder:
                    if plan.store.finished(run) is None:
                        with _ordered(plan, run, folder):
                            result = train_one(plan.recipe, run, splits, folder, report, how)
                        plan.store.finish(run, result)
                    said = _line(plan.store.finished(run))
            except Busy as busy:
                said = f"left out: {busy}"
            except (Diverged, RunError) as error:
                failed.append(Failure(run, error))
                said = str(failed[-1])
                bar.update(before)
            else:
                bar.update(before + 1)
            bar.say(said)
    return runs, failed


@dataclasses.dataclass(frozen=True)
class _Order:
    """What all processes of a command that a launcher has started train next, and what they must have in common."""

    run: str
    continued: bool
    hardware: Hardware


@contextlib.contextmanager
def _ordered(plan: Plan, run: Run, folder: Path) -> Iterator[None]:
    """The processes of the other nodes train it, too."""
    group = plan.hardware.group
    if group is None:
        yield
        return
    group.order(_Order(run.slug, (folder / "last.ckpt").exists(), plan.hardware))
    with group.training():
        yield


def _follow(plan: Plan, runs: list[Run], splits: Splits, how: dict) -> None:
    """Train what the process that leads says; it also tells what went wrong, here or elsewhere."""
    by_name, group = {run.slug: run for run in runs}, plan.hardware.group
    for order in group.orders():
        with contextlib.suppress(Exception), group.training():
            if order.run not in by_name or order.hardware != plan.hardware:
                ours = f"{splits.name} {splits.digest} on {plan.hardware}"
                raise RunError(f"node {group.node} has other data or hardware: {ours}; the first one {order.hardware}")
            folder = plan.store.folder_of(by_name[order.run])
            _wait_for_the_disk(folder, order.continued, group.node)
            train_one(plan.recipe, by_name[order.run], splits, folder, lambda *_: None, how)


def _wait_for_the_disk(folder: Path, continued: bool, node: int) -> None:
    """Until this node sees what the first one has written; raises :class:`RunError` if it never does."""
    until = time.monotonic() + SHARED_DISK
    while not folder.is_dir() or (folder / "last.ckpt").exists() != continued:
        if time.monotonic() > until:
            raise RunError(f"node {node} does not see {folder} as the first one does: --out must lie on a disk they share")
        time.sleep(0.1)


def train_one(recipe: "TableRecipe", run: Run, splits: Splits, folder: Path, report: Callable, how: dict) -> dict:
    """The result of one run, in its folder; ``how`` goes to :func:`recipes.engine.training.trainer.train`."""
    from ..training import trainer  # Lightning: seconds that a table or --help need not pay

    build = functools.partial(recipe.build, splits.inputs, splits.classes, run.settings)
    result = trainer.train(build, splits, run.seed, folder, report, **how)
    return {"data": splits.facts} | result


def _kept(runs: list[Run], store: RunStore) -> tuple[list[Run], list[Failure]]:
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
    _mention([result for _, result in done.values()], store)
    return [run for run, _ in done.values()], failed


def _mention(done: list[dict], store: RunStore) -> None:
    if not done:
        return
    are = "is" if len(done) == 1 else "are"
    print(f"{tables.counted(len(done), 'finished run')} in {store.folder} {are} kept and not repeated.")
    ours = machine.versions().get("snn_delay_plugins")
    others = {result["versions"].get("snn_delay_plugins") for result in done} - {ours}
    if others:
        print(f"Some were made with snn_delay_plugins {', '.join(map(str, others))}; this is {ours}.")


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
