"""An objective as Lightning wants it."""

import math
import time

import lightning
import torch
from torch import Tensor

from ..errors import Diverged, RunError
from . import parallel
from .batches import Batch, seed_everything
from .checkpoints import check_optimizer
from .dropout import drawn_as
from .epochs import Tally
from .objectives import Moment, Objective

ADVICE = "a smaller learning rate may help"


class Training(lightning.LightningModule):
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
            check_optimizer(self.optimizers().optimizer)
            if self.current_epoch != len(self.history):
                raise ValueError(f"it would go on with epoch {self.current_epoch + 1} after {len(self.history)}")
        epochs = torch.tensor([1, self.current_epoch], device=self.device)
        processes, altogether = parallel.total(epochs).tolist()
        if altogether != processes * self.current_epoch:
            raise RunError("the processes have read different checkpoints: --out must lie on a disk that all nodes share")
        self.begun = True

    def on_train_epoch_start(self) -> None:
        seed_everything(self.seed, self.current_epoch)
        self._train = Tally()
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
                f"(seed {self.seed}); {ADVICE}"
            )
        return loss if batch.share is None else loss * batch.share.weight

    def on_validation_start(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._seconds = time.perf_counter() - self._started
        seed_everything(self.seed)
        self.objective.before_evaluation()
        self._tallies = {name: Tally() for name in self.evaluated}

    def validation_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None:
        self._measure(batch, self._tallies[self.evaluated[dataloader_idx]])

    def on_validation_epoch_end(self) -> None:
        entry = {"epoch": self.current_epoch + 1, "learning_rate": self.optimizers().param_groups[0]["lr"]}
        for name, tally in {"train": self._train, **self._tallies}.items():
            measured = {f"{name}_{what}": value for what, value in tally.means(self.device).items()}
            for what, value in measured.items():
                if not math.isfinite(value):  # in evaluation it is no training step that says so
                    raise Diverged(f"{what} became {value} in epoch {self.current_epoch + 1} (seed {self.seed}); {ADVICE}")
            entry |= measured
        if not is_finite(self.network):  # of a neuron that has fallen silent for it, no loss would tell
            where = f"in epoch {self.current_epoch + 1} (seed {self.seed})"
            raise Diverged(f"a parameter became NaN or infinite {where}; {ADVICE}")
        entry["seconds"] = self._seconds  # training alone, without evaluation
        self.history.append(entry)

    def on_train_epoch_end(self) -> None:
        # Schedulers are stepped here rather than by Lightning, which would skip the step of the epoch that a
        # checkpoint was taken in.
        self.objective.after_epoch(self.optimizers().optimizer, self.history[-1], self.criterion)
        if self.objective.finished(self.history, self.criterion):
            self.trainer.should_stop = True

    def _measure(self, batch: Batch, tally: "Tally") -> Tensor:
        inputs, labels, share = batch
        with parallel.holding(share):
            measured = self.objective.measure(inputs, labels)
        tally.add(len(labels), loss=measured.loss * len(labels), accuracy=measured.correct * 100.0, spikes=measured.spikes)
        return measured.loss


def is_finite(network: torch.nn.Module) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
