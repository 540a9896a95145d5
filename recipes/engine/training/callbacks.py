"""What is written and told after every epoch."""

import io
from collections.abc import Callable
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint

from ..files import atomic
from .epochs import as_csv, best_epoch
from .module import Training


class KeepState(Checkpoint):
    """After each epoch: the weights when the epoch is the best so far, the log and the checkpoint; each whole
    or not at all. The first of several processes writes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_validation_end(self, trainer: lightning.Trainer, module: Training) -> None:
        # before the objective's after_epoch, which may change the weights that were measured
        if trainer.is_global_zero and best_epoch(module.history, module.criterion) is module.history[-1]:
            weights = io.BytesIO()  # torch itself does not say what keeps it from writing to a disk
            torch.save(module.network.state_dict(), weights)
            with atomic.replacing(self.folder / "best.pt") as part:
                part.write_bytes(weights.getbuffer())

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Training) -> None:
        # Lightning calls this after the module's own, so the checkpoint holds what the next epoch starts from
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.folder / "last.ckpt")  # takes part, and writes nothing
            return
        atomic.write_text(self.folder / "metrics.csv", as_csv(module.history))
        with atomic.replacing(self.folder / "last.ckpt") as part:
            trainer.save_checkpoint(part)


class Report(Callback):
    """Calls ``report(share of the epochs done, last finished epoch or None)`` after every batch."""

    def __init__(self, report: Callable[[float, dict | None], None], epochs: int):
        self.report, self.epochs = report, epochs

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        done = trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches
        self.report(done / self.epochs, module.history[-1] if module.history else None)


class TensorBoard(Callback):
    """Every number of the history, for TensorBoard; epochs that a resumed run repeats replace those that were lost."""

    def __init__(self, folder: Path, first_epoch: int):
        self.folder, self.first_epoch, self.writer = folder, first_epoch, None

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Training) -> None:
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

    def teardown(self, trainer: lightning.Trainer, module: Training, stage: str) -> None:
        if self.writer is not None:
            self.writer.close()
