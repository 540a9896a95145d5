"""Training one network with one seed, on Lightning; may be killed at any moment and continued.

Every random choice follows the seed: epoch e of seed s draws its shuffling, augmentation, dropout and initial
states from generators seeded by (s, e) when it begins, and evaluation from one seeded by s. A run continued
from the checkpoint of its last whole epoch therefore ends, bit for bit, where the uninterrupted one would have
(same machine, versions, number of threads and kind of device). A run divided over several processes
(:mod:`recipes.engine.training.parallel`) is the same run up to rounding, and may be continued with another number of them.
"""

import contextlib
import csv
import functools
import io
import logging
import math
import random
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from snn_delay_plugins.functional.adlif import NotFiniteError
from snn_delay_plugins.kernels.eventprop.neuron import TooManySpikes

from ..data.sources import Part, Splits
from ..errors import Diverged, RunError, one_line
from ..files import atomic
from . import machine, parallel
from .dropout import drawn_as
from .hardware import ONE_PROCESS, Hardware
from .kept import check_weights, is_history, load_kept
from .networks import check_network, count_parameters
from .objectives import Moment, Objective

_ADVICE = "a smaller learning rate may help"
_EVALUATION_BATCH = 256  # without a graph to keep, larger batches cost no more memory than training ones


# ------------------------------------------------------------------------------------------ seeds and batches


def seed_everything(*parts: int) -> None:
    """Python, NumPy and torch from one sequence of numbers, e.g. (seed, epoch)."""
    word = int(np.random.SeedSequence(parts).generate_state(1)[0])
    random.seed(word)
    np.random.seed(word)
    torch.manual_seed(word)


class Draw(NamedTuple):
    """One batch to come: which examples, and the seed of what is random in them."""

    which: np.ndarray
    seed: tuple[int, ...]


class Batch(NamedTuple):
    """``share``: which rows of the batch these are; None: all."""

    inputs: Any
    labels: Tensor
    share: parallel.Share | None


class _Batches(Dataset):
    """Whole batches of a part by :class:`Draw`, or this process's rows of them."""

    def __init__(self, part: Part, process: int = 0, processes: int = 1):
        self.part, self.process, self.processes = part, process, processes

    def __getitem__(self, draw: Draw) -> Batch:
        # A share is cut out of the whole batch, whose augmentations are drawn from one generator.
        inputs, labels = self.part.batch(draw.which, np.random.default_rng(draw.seed))
        if self.processes == 1:
            return Batch(inputs, labels, None)
        share = parallel.Share.of(len(labels), self.process, self.processes)
        return Batch(inputs[share.rows], labels[share.rows], share)

    def __len__(self) -> int:
        return len(self.part)


class _EpochShuffle(Sampler):
    """Batches of example numbers; the order follows (seed, epoch) alone. Lightning tells the epoch, also
    after a resume."""

    def __init__(self, examples: int, batch_size: int, seed: int | None):
        self.examples, self.batch_size, self.seed, self.epoch = examples, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Draw]:
        seed = (0,) if self.seed is None else (self.seed, self.epoch)
        order = np.arange(self.examples)
        if self.seed is not None:
            order = np.random.default_rng(seed).permutation(self.examples)
        for number, start in enumerate(range(0, self.examples, self.batch_size)):
            yield Draw(order[start : start + self.batch_size], (*seed, number))

    def __len__(self) -> int:
        return math.ceil(self.examples / self.batch_size)


def batches(
    part: Part, batch_size: int, shuffle_seed: int | None = None, epoch: int = 0, process: int = 0, processes: int = 1
) -> DataLoader:
    """:class:`Batch` after batch of a part, the last one smaller where it has to be; unshuffled without a seed.
    ``epoch`` is the first to come. ``process`` of ``processes`` gets its rows of each."""
    sampler = _EpochShuffle(len(part), batch_size, shuffle_seed)
    sampler.set_epoch(epoch)
    # A DataLoader draws a number whenever it is iterated, which Lightning does before or after the epoch's
    # seeding: give it its own.
    of_process = _Batches(part, process, processes)
    return DataLoader(of_process, sampler=sampler, batch_size=None, generator=torch.Generator())


# -------------------------------------------------------------------------------------------------- Lightning


class _Training(lightning.LightningModule):
    """An objective as Lightning wants it.

    ``history`` gets one entry per epoch; ``evaluated`` names the evaluation sets, ``criterion`` the metric that
    the protocol goes by.
    """

    def __init__(self, objective: Objective, seed: int, evaluated: list[str], criterion: str):
        super().__init__()
        self.network = objective.network
        self.objective, self.seed, self.evaluated, self.criterion = objective, seed, evaluated, criterion
        self.history: list[dict] = []
        self.begun = False  # whether all that a checkpoint holds has been taken over
        self._objective_state = None

    def configure_optimizers(self):
        return self.objective.optimizer()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["history"] = self.history
        checkpoint["objective"] = self.objective.state_dict()
        checkpoint["drawn_as"] = drawn_as(self.network)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.history = checkpoint["history"]
        self._objective_state = checkpoint["objective"]

    def on_train_start(self) -> None:
        if self._objective_state is not None:  # only now does the optimizer exist that it may belong to
            self.objective.load_state_dict(self._objective_state)
            _check_optimizer(self.optimizers().optimizer)
            if self.current_epoch != len(self.history):
                raise ValueError(f"it would go on with epoch {self.current_epoch + 1} after {len(self.history)}")
        self.begun = True

    def on_train_epoch_start(self) -> None:
        seed_everything(self.seed, self.current_epoch)
        self._train = _Tally()
        self.objective.before_epoch(self.current_epoch)
        self._started = time.perf_counter()

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        moment = Moment(self.current_epoch, index, self.trainer.num_training_batches)
        self.objective.before_batch(self.optimizers().optimizer, moment)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = self._measure(batch, self._train)
        if not torch.isfinite(loss):
            raise Diverged(
                f"the loss became {loss.item()} in epoch {self.current_epoch + 1}, batch {index + 1} "
                f"(seed {self.seed}); {_ADVICE}"
            )
        return loss if batch.share is None else loss * batch.share.weight

    def on_validation_start(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._seconds = time.perf_counter() - self._started
        seed_everything(self.seed)
        self._tallies = {name: _Tally() for name in self.evaluated}

    def validation_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None:
        self._measure(batch, self._tallies[self.evaluated[dataloader_idx]])

    def on_validation_epoch_end(self) -> None:
        entry = {"epoch": self.current_epoch + 1, "learning_rate": self.optimizers().param_groups[0]["lr"]}
        for name, tally in {"train": self._train, **self._tallies}.items():
            measured = {f"{name}_{what}": value for what, value in tally.means(self.device).items()}
            for what, value in measured.items():
                if not math.isfinite(value):  # in evaluation it is no training step that says so
                    raise Diverged(f"{what} became {value} in epoch {self.current_epoch + 1} (seed {self.seed}); {_ADVICE}")
            entry |= measured
        if not _is_finite(self.network):  # of a neuron that has fallen silent for it, no loss would tell
            where = f"in epoch {self.current_epoch + 1} (seed {self.seed})"
            raise Diverged(f"a parameter became NaN or infinite {where}; {_ADVICE}")
        entry["seconds"] = self._seconds  # training alone, without evaluation
        self.history.append(entry)

    def on_train_epoch_end(self) -> None:
        # Schedulers are stepped here rather than by Lightning, which would skip the step of the epoch that a
        # checkpoint was taken in.
        self.objective.after_epoch(self.optimizers().optimizer, self.history[-1], self.criterion)
        if self.objective.finished(self.history, self.criterion):
            self.trainer.should_stop = True

    def _measure(self, batch: Batch, tally: "_Tally") -> Tensor:
        inputs, labels, share = batch
        with parallel.holding(share):
            measured = self.objective.measure(inputs, labels)
        tally.add(len(labels), loss=measured.loss * len(labels), accuracy=measured.correct * 100.0, spikes=measured.spikes)
        return measured.loss


class _Tally:
    """Sums over samples, for means that weigh every sample alike, however the batches fell."""

    names = ("loss", "accuracy", "spikes")

    def __init__(self):
        self.samples, self.sums = 0, dict.fromkeys(self.names, 0.0)

    def add(self, samples: int, **sums: Tensor) -> None:
        self.samples += samples
        for name, value in sums.items():
            self.sums[name] = self.sums[name] + value.detach().double()

    def means(self, device: torch.device | None = None) -> dict[str, float]:
        """Over the samples of all processes."""
        sums = torch.tensor([self.samples, *map(float, self.sums.values())], dtype=torch.float64, device=device)
        samples, *values = parallel.total(sums).tolist()
        return {name: value / samples for name, value in zip(self.sums, values, strict=True)}


class _KeepState(Checkpoint):
    """After each epoch: the weights when the epoch is the best so far, the log and the checkpoint; each whole
    or not at all. The first of several processes writes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_validation_end(self, trainer: lightning.Trainer, module: _Training) -> None:
        # before the objective's after_epoch, which may change the weights that were measured
        if trainer.is_global_zero and best_epoch(module.history, module.criterion) is module.history[-1]:
            weights = io.BytesIO()  # torch itself does not say what keeps it from writing to a disk
            torch.save(module.network.state_dict(), weights)
            with atomic.replacing(self.folder / "best.pt") as part:
                part.write_bytes(weights.getbuffer())

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: _Training) -> None:
        # Lightning calls this after the module's own, so the checkpoint holds what the next epoch starts from
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.folder / "last.ckpt")  # takes part, and writes nothing
            return
        atomic.write_text(self.folder / "metrics.csv", _as_csv(module.history))
        with atomic.replacing(self.folder / "last.ckpt") as part:
            trainer.save_checkpoint(part)


class _Report(Callback):
    """Calls ``report(share of the epochs done, last finished epoch or None)`` after every batch."""

    def __init__(self, report: Callable[[float, dict | None], None], epochs: int):
        self.report, self.epochs = report, epochs

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        done = trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches
        self.report(done / self.epochs, module.history[-1] if module.history else None)


class _TensorBoard(Callback):
    """Every number of the history, for TensorBoard; epochs that a resumed run repeats replace those that were lost."""

    def __init__(self, folder: Path, first_epoch: int):
        self.folder, self.first_epoch, self.writer = folder, first_epoch, None

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: _Training) -> None:
        if not trainer.is_global_zero:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(self.folder, purge_step=self.first_epoch)
        entry = module.history[-1]
        for name, value in entry.items():
            part, _, what = name.partition("_")
            tag = f"{what}/{part}" if part in ("train", *module.evaluated) else name
            self.writer.add_scalar(tag, value, entry["epoch"])
        self.writer.flush()

    def teardown(self, trainer: lightning.Trainer, module: _Training, stage: str) -> None:
        if self.writer is not None:
            self.writer.close()


# ---------------------------------------------------------------------------------------------- one whole run


def train(
    build: Callable[[], Objective],
    splits: Splits,
    seed: int,
    folder: Path,
    report: Callable[[float, dict | None], None] = lambda share, epoch: None,
    *,
    hardware: Hardware = ONE_PROCESS,
    tensorboard: bool = False,
    reload: Callable[[], Splits] | None = None,
) -> dict:
    """Train one network; continue from ``folder/last.ckpt`` where there is one. Returns the result as plain
    JSON values.

    ``build`` makes the network and its objective after the seed has been set; the objective's ``hyper`` says
    how many ``epochs`` and of which ``batch_size``, which is divided among ``hardware.devices``. ``report`` is
    told of the progress. Several processes get ``build`` and ``reload`` (which loads the splits anew; default:
    ``splits`` itself) by pickle. Raises :class:`Diverged`, :class:`RunError` for a checkpoint that cannot be continued, and
    what :meth:`Hardware.check` raises.
    """
    if hardware.devices == 1:
        return _train(report, build, lambda: splits, seed, folder, hardware, tensorboard)
    objective = build()
    check_network(objective.network)
    hardware.check(splits, objective.hyper.batch_size)
    arguments = (build, reload or functools.partial(_same, splits), seed, folder, hardware, tensorboard)
    return parallel.run(_train, arguments, hardware.devices, report)


def _evaluation_batch(samples: int, processes: int) -> int:
    """The largest size up to the usual one of which no batch is too small to divide."""
    sizes = range(_EVALUATION_BATCH, 0, -1)
    return next(size for size in sizes if min(size, samples % size or size) >= min(processes, samples))


def _same(splits: Splits) -> Splits:
    return splits


def _train(
    report: Callable[[float, dict | None], None],
    build: Callable[[], Objective],
    load: Callable[[], Splits],
    seed: int,
    folder: Path,
    hardware: Hardware,
    tensorboard: bool,
) -> dict:
    """In each process."""
    machine.keep_freed_memory()
    splits = load()
    seed_everything(seed)
    objective = build()
    network, hyper, evaluated = objective.network, objective.hyper, splits.evaluated
    module = _Training(objective, seed, list(evaluated), splits.criterion)
    checkpoint = folder / "last.ckpt"
    resumed = checkpoint.exists()
    history = _history_of(checkpoint, objective, splits.criterion) if resumed else []
    started = datetime.now(UTC)
    callbacks = [_KeepState(folder), _Report(report, hyper.epochs)]
    if tensorboard:
        callbacks.insert(0, _TensorBoard(folder / "tensorboard", first_epoch=len(history) + 1))
    with machine.peak_memory() as memory, _quiet(), _interruptible(), _explained(module, checkpoint):
        trainer = lightning.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            strategy="ddp" if hardware.devices > 1 else "auto",
            use_distributed_sampler=False,  # ours divides each batch
            precision={"32": "32-true"}.get(hardware.precision, hardware.precision),
            max_epochs=hyper.epochs,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        device = trainer.strategy.root_device
        machine.reset_peak_gpu_memory(device)
        share = {"process": trainer.global_rank, "processes": hardware.devices}
        if history and objective.finished(history, splits.criterion):
            module.history = history  # stopped early, and then killed before its result was written
        else:
            trainer.fit(
                module,
                # Lightning tells the sampler the epoch too late on a resume: it has drawn the first batches by then.
                batches(splits.train, hyper.batch_size, shuffle_seed=seed, epoch=len(history), **share),
                [batches(part, _evaluation_batch(len(part), hardware.devices), **share) for part in evaluated.values()],
                ckpt_path=checkpoint if resumed else None,
                weights_only=True,
            )
    return {
        "parameters": count_parameters(network),
        "history": module.history,
        "best": chosen_epochs(module.history, splits.criteria),
        "seconds_per_epoch": statistics.median(entry["seconds"] for entry in module.history),
        "peak_memory_mib": parallel.largest(memory.peak, device),
        "memory_before_mib": memory.before,
        "peak_memory_of_run_alone": memory.reset,
        "peak_gpu_memory_mib": machine.peak_gpu_memory(device),
        "resumed": resumed,
        "threads": torch.get_num_threads(),
        "hardware": hardware.describe(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "command": sys.argv,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def best_epoch(history: list[dict], metric: str) -> dict:
    """The epoch with the highest ``metric``; of equals the first."""
    return max(history, key=lambda entry: entry[metric])


def chosen_epochs(history: list[dict], criteria: dict[str, str]) -> dict[str, dict]:
    """The epoch that each protocol chooses, by its criterion."""
    kept = ("epoch", "train_accuracy", "valid_accuracy", "valid_spikes", "test_accuracy", "test_spikes")
    return {
        protocol: {name: value for name, value in best_epoch(history, metric).items() if name in kept}
        for protocol, metric in criteria.items()
    }


def _history_of(checkpoint: Path, objective: Objective, criterion: str) -> list[dict]:
    """The epochs that a checkpoint was taken after. Raises :class:`RunError` where it cannot be continued."""
    remedy = _remedy(checkpoint)
    kept = load_kept(checkpoint, remedy)
    if not isinstance(kept, dict):
        raise RunError(f"{checkpoint}: holds no training; {remedy}")
    if "objective" not in kept or kept.get("drawn_as") != drawn_as(objective.network):
        raise RunError(
            f"{checkpoint}: written by an earlier version, which cannot be continued; "
            f"delete {checkpoint.parent} to begin the run anew"
        )
    history, most = kept.get("history"), objective.hyper.epochs
    if not is_history(history) or not {criterion, "learning_rate", "seconds"} <= history[0].keys() or len(history) > most:
        raise RunError(f"{checkpoint}: holds no history of this training; {remedy}")
    if missing := {"optimizer_states", "lr_schedulers", "loops"} - kept.keys():
        raise RunError(f"{checkpoint}: holds no {', '.join(sorted(missing))}; {remedy}")
    if kept.get("epoch") != len(history) - 1:  # counted from 0
        raise RunError(f"{checkpoint}: its epoch is not that of its history; {remedy}")
    expected = {f"network.{name}": value for name, value in objective.network.state_dict().items()}
    check_weights(kept.get("state_dict"), expected, checkpoint, remedy, finite=True)
    return history


def _remedy(checkpoint: Path) -> str:
    return f"delete {checkpoint.name} there to train this run from the start"


def _check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError for no state, which would begin anew, and for one of other sizes than the parameters, which torch
    takes, to fail in the first step."""
    if not optimizer.state:
        raise ValueError("no state of the optimizer")
    for group in optimizer.param_groups:
        numbers = [group["lr"], group.get("eps", 0.0), group.get("weight_decay", 0.0), *group.get("betas", ())]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("numbers of the optimizer that are not finite")
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")


@contextlib.contextmanager
def _explained(module: _Training, checkpoint: Path) -> Iterator[None]:
    """What ends a training without being a bug: Raises :class:`Diverged` where numbers have left every bound, and
    :class:`RunError` where the checkpoint could not be taken over."""
    try:
        yield
    except (Diverged, RunError, OSError):
        raise
    except Exception as error:
        if _left_all_bounds(error) or not _is_finite(module.network):
            where = f"in epoch {module.current_epoch + 1} (seed {module.seed})"
            raise Diverged(f"{where} {one_line(error, 400)}; {_ADVICE}") from error
        if checkpoint.exists() and not module.begun:
            raise RunError(f"{checkpoint}: cannot be continued ({one_line(error)}); {_remedy(checkpoint)}") from error
        raise


def _left_all_bounds(error: Exception) -> bool:
    """torch's optimizers have no class of their own for a step that 32 bits do not hold."""
    return isinstance(error, NotFiniteError | TooManySpikes | OverflowError) or "without overflow" in str(error)


def _is_finite(network: torch.nn.Module) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def _as_csv(history: list[dict]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    return text.getvalue()


@contextlib.contextmanager
def _interruptible():
    """Ctrl-C as a KeyboardInterrupt: Lightning turns it into sys.exit(1) and leaves the process deaf to the
    next one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error


class _quiet(warnings.catch_warnings):
    """Lightning's notes on devices, workers and checkpoints are for its own scripts; errors still come
    through."""

    def __enter__(self):
        super().__enter__()
        self._levels = {name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")}
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning\..*")

    def __exit__(self, *error):
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        super().__exit__(*error)
