"""Training one network with one seed, on Lightning; may be killed at any moment and continued.

Every random choice follows the seed: epoch e of seed s draws its shuffling, dropout and initial states from
generators seeded by (s, e) when it begins, and evaluation from one seeded by s. A run continued from the
checkpoint of its last whole epoch therefore ends, bit for bit, where the uninterrupted one would have (same
machine, versions and number of threads).
"""

import contextlib
import csv
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

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from recipes.engine import atomic, losses, machine
from recipes.engine.data import Recordings, Splits
from recipes.engine.hyperparameters import Hyperparameters
from recipes.engine.networks import as_input, count_parameters

_EVALUATION_BATCH = 256  # without a graph to keep, larger batches cost no more memory than training ones


class Diverged(RuntimeError):
    """The loss is not a number any more."""


# ------------------------------------------------------------------------------------------ seeds and batches


def seed_everything(*parts: int) -> None:
    """Python, NumPy and torch from one sequence of numbers, e.g. (seed, epoch)."""
    word = int(np.random.SeedSequence(parts).generate_state(1)[0])
    random.seed(word)
    np.random.seed(word)
    torch.manual_seed(word)


class _InMemory(Dataset):
    """Whole batches by lists of sample numbers: (counts uint8 [N, T, channels], labels [N])."""

    def __init__(self, recordings: Recordings):
        self.counts, self.labels = torch.from_numpy(recordings.counts), torch.from_numpy(recordings.labels)

    def __getitem__(self, which: list[int]) -> tuple[Tensor, Tensor]:
        return self.counts[which], self.labels[which]

    def __len__(self) -> int:
        return len(self.labels)


class _EpochShuffle(Sampler):
    """Batches of sample numbers; the order follows (seed, epoch) alone. Lightning tells the epoch, also after
    a resume."""

    def __init__(self, samples: int, batch_size: int, seed: int | None):
        self.samples, self.batch_size, self.seed, self.epoch = samples, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        if self.seed is None:
            order = np.arange(self.samples)
        else:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.samples)
        return iter(torch.from_numpy(order).split(self.batch_size))

    def __len__(self) -> int:
        return math.ceil(self.samples / self.batch_size)


def batches(
    recordings: Recordings, batch_size: int, shuffle_seed: int | None = None, epoch: int = 0
) -> DataLoader:
    """Batches from memory, the last one smaller where it has to be; unshuffled without a seed. ``epoch`` is
    the first to come."""
    sampler = _EpochShuffle(len(recordings), batch_size, shuffle_seed)
    sampler.set_epoch(epoch)
    # A DataLoader draws a number whenever it is iterated, which Lightning does before or after the epoch's
    # seeding: give it its own.
    return DataLoader(_InMemory(recordings), sampler=sampler, batch_size=None, generator=torch.Generator())


# -------------------------------------------------------------------------------------------------- Lightning


def parameter_groups(network: nn.Module, hyper: Hyperparameters) -> list[dict]:
    """Every parameter named ``delay`` learns ``delay_rate_factor`` times as fast."""
    delays = [p for name, p in network.named_parameters() if name.rpartition(".")[2] == "delay"]
    others = [p for name, p in network.named_parameters() if name.rpartition(".")[2] != "delay"]
    groups = [{"params": others, "lr": hyper.learning_rate}]
    if delays:
        groups.append({"params": delays, "lr": hyper.learning_rate * hyper.delay_rate_factor})
    return groups


class SpikingClassifier(lightning.LightningModule):
    """Deckers et al., Eq. 3-4, for any network that maps counts [T, N, channels] to a Response.

    ``history`` gets one entry per epoch; ``evaluated`` names the evaluation sets, the first of which steers
    the learning rate.
    """

    def __init__(self, network: nn.Module, hyper: Hyperparameters, seed: int, evaluated: list[str]):
        super().__init__()
        self.network, self.hyper, self.seed, self.evaluated = network, hyper, seed, evaluated
        self.history: list[dict] = []

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(parameter_groups(self.network, self.hyper))
        # Stepped below rather than by Lightning, which would skip the step of the epoch that a checkpoint was
        # taken in.
        self.plateau = (
            torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                mode="max",
                factor=self.hyper.plateau_factor,
                patience=self.hyper.plateau_patience,
                min_lr=self.hyper.min_learning_rate,
            )
            if self.hyper.plateau_factor < 1
            else None
        )
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["history"] = self.history
        checkpoint["plateau"] = self.plateau.state_dict() if self.plateau else None

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.history = checkpoint["history"]
        self._plateau_to_load = checkpoint["plateau"]

    def on_train_start(self) -> None:
        loaded = self.__dict__.pop("_plateau_to_load", None)
        if self.plateau and loaded:
            self.plateau.load_state_dict(loaded)

    def on_train_epoch_start(self) -> None:
        seed_everything(self.seed, self.current_epoch)
        self._train = _Tally()
        self._started = time.perf_counter()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = self._measure(batch, self._train)
        if not torch.isfinite(loss):
            raise Diverged(
                f"the loss became {loss.item()} in epoch {self.current_epoch + 1}, batch {index + 1} "
                f"(seed {self.seed}); a smaller learning rate may help"
            )
        return loss

    def on_validation_start(self) -> None:
        self._seconds = time.perf_counter() - self._started
        seed_everything(self.seed)
        self._tallies = {name: _Tally() for name in self.evaluated}

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int, dataloader_idx: int = 0) -> None:
        self._measure(batch, self._tallies[self.evaluated[dataloader_idx]])

    def on_validation_epoch_end(self) -> None:
        entry = {"epoch": self.current_epoch + 1, "learning_rate": self.optimizers().param_groups[0]["lr"]}
        for name, tally in {"train": self._train, **self._tallies}.items():
            entry |= {f"{name}_{what}": value for what, value in tally.means().items()}
        entry["seconds"] = self._seconds  # training alone, without evaluation
        self.history.append(entry)
        if self.plateau:
            self.plateau.step(entry[f"{self.evaluated[0]}_accuracy"])

    def _measure(self, batch: tuple[Tensor, Tensor], tally: "_Tally") -> Tensor:
        counts, labels = batch
        response = self.network(as_input(counts))
        loss = losses.summed_softmax_cross_entropy(response.membrane, labels)
        with torch.no_grad():
            right = (losses.summed_softmax(response.membrane).argmax(1) == labels).sum()
            tally.add(
                len(labels), loss=loss * len(labels), accuracy=right * 100.0, spikes=response.spikes.sum()
            )
        return loss


class _Tally:
    """Sums over samples, for means that weigh every sample alike, however the batches fell."""

    def __init__(self):
        self.samples, self.sums = 0, {}

    def add(self, samples: int, **sums: Tensor) -> None:
        self.samples += samples
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().double()

    def means(self) -> dict[str, float]:
        return {name: float(value) / self.samples for name, value in self.sums.items()}


class _KeepState(Checkpoint):
    """After each epoch: the checkpoint, the weights when the epoch is the best so far, and the log; each
    whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: SpikingClassifier) -> None:
        if best_epoch(module.history, f"{module.evaluated[0]}_accuracy") is module.history[-1]:
            with atomic.replacing(self.folder / "best.pt") as part:
                torch.save(module.network.state_dict(), part)
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


# ---------------------------------------------------------------------------------------------- one whole run


def train(
    build: Callable[[], nn.Module],
    splits: Splits,
    hyper: Hyperparameters,
    seed: int,
    folder: Path,
    report: Callable[[float, dict | None], None] = lambda share, epoch: None,
) -> dict:
    """Train one network; continue from ``folder/last.ckpt`` where there is one. Returns the result as plain
    JSON values.

    ``build`` makes the network after the seed has been set. ``report`` is told of the progress. Raises
    :class:`Diverged`.
    """
    seed_everything(seed)
    network = build()
    evaluated = splits.evaluated
    module = SpikingClassifier(network, hyper, seed, list(evaluated))
    checkpoint = folder / "last.ckpt"
    resumed = checkpoint.exists()
    # Lightning tells the sampler the epoch too late on a resume: it has drawn the first batches by then.
    done = len(torch.load(checkpoint, weights_only=True)["history"]) if resumed else 0
    started = datetime.now(UTC)
    with machine.peak_memory() as memory, _quiet(), _interruptible():
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=hyper.epochs,
            callbacks=[_KeepState(folder), _Report(report, hyper.epochs)],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(
            module,
            batches(splits.train, hyper.batch_size, shuffle_seed=seed, epoch=done),
            [batches(part, _EVALUATION_BATCH) for part in evaluated.values()],
            ckpt_path=checkpoint if resumed else None,
            weights_only=True,
        )
    return {
        "parameters": count_parameters(network),
        "history": module.history,
        "best": chosen_epochs(module.history),
        "seconds_per_epoch": statistics.median(entry["seconds"] for entry in module.history),
        "peak_memory_mib": memory.peak,
        "memory_before_mib": memory.before,
        "peak_memory_of_run_alone": memory.reset,
        "resumed": resumed,
        "threads": torch.get_num_threads(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "command": sys.argv,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def best_epoch(history: list[dict], metric: str) -> dict:
    """The epoch with the highest ``metric``; of equals the first."""
    return max(history, key=lambda entry: entry[metric])


def chosen_epochs(history: list[dict]) -> dict[str, dict]:
    """The epoch that each protocol chooses: "paper" by test accuracy, "clean" by validation accuracy (where
    it was measured)."""
    chosen = {"paper": best_epoch(history, "test_accuracy")}
    if "valid_accuracy" in history[0]:
        chosen["clean"] = best_epoch(history, "valid_accuracy")
    kept = ("epoch", "valid_accuracy", "test_accuracy", "test_spikes")
    return {protocol: {k: v for k, v in entry.items() if k in kept} for protocol, entry in chosen.items()}


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
        self._levels = {
            name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")
        }
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning\..*")

    def __exit__(self, *error):
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        super().__exit__(*error)
