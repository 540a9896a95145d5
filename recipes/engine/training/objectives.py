"""What a network is trained for: its loss, its optimizer, what happens between batches and between epochs.

An objective owns everything about a training that a paper may do in its own way. The engine owns the rest:
seeds, batches, checkpoints, logs and the choice of the epoch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import losses
from .hyperparameters import Hyperparameters
from .networks import Response, as_input


class Measured(NamedTuple):
    """What one batch gave."""

    loss: Tensor
    """Mean over the samples; what is minimised."""
    correct: Tensor
    """Number of samples that were classified correctly."""
    spikes: Tensor
    """Sum over the samples of the mean number of spikes per hidden neuron."""


class Moment(NamedTuple):
    """A place in a training. Schedules that are functions of it need no state and resume by themselves."""

    epoch: int
    """Counted from 0."""
    batch: int
    """Counted from 0 in every epoch."""
    batches: int
    """Batches in an epoch."""

    @property
    def step(self) -> int:
        """Batches before this one since the start."""
        return self.epoch * self.batches + self.batch


class Objective:
    """Base of all objectives; built as ``objective(network, hyper)``.

    State that is neither in the network nor in the optimizer nor a function of the :class:`Moment` goes
    through :meth:`state_dict`, which must hold plain values and tensors. What :meth:`measure` does not compute sample
    by sample goes through :mod:`recipes.engine.training.parallel`.
    """

    runs_on_gpu = True
    mixed_precision = True

    def __init__(self, network: nn.Module, hyper: Any):
        self.network, self.hyper = network, hyper

    def optimizer(self) -> Optimizer:
        """One optimizer; parameter groups give each kind of parameter its own learning rate."""
        raise NotImplementedError

    def measure(self, inputs: Any, labels: Tensor) -> Measured:
        """Run the network on a batch, in training (``network.training``) or in evaluation."""
        raise NotImplementedError

    def scores(self, inputs: Any) -> Tensor:
        """What a softmax makes probabilities of, ``[N, classes]``, for a batch in evaluation."""
        raise NotImplementedError

    def before_epoch(self, epoch: int) -> None:
        """Called before the first batch of epoch 0, 1, ..."""

    def before_batch(self, optimizer: Optimizer, moment: Moment) -> None:
        """Called before every batch: learning rates that change by batch or by epoch."""

    def before_evaluation(self) -> None:
        """Called when an epoch has been trained, before it is evaluated and its weights are kept: the network may be given
        those that are to be (an average). :meth:`after_epoch` takes them back."""

    def after_epoch(self, optimizer: Optimizer, entry: dict, criterion: str) -> None:
        """Called when an epoch has been trained and evaluated: ``entry[criterion]`` is what the protocol goes
        by. Changes to the network made here are part of the next epoch, not of the one that was measured."""

    def finished(self, history: list[dict], criterion: str) -> bool:
        """Whether to stop before the last epoch (early stopping). A function of the history alone."""
        return False

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


class SummedSoftmax(Objective):
    """Deckers et al., Eq. 3-4, for any network that maps counts [T, N, channels] to a Response: Adam with a
    rate of its own for delays, lowered when the criterion no longer rises."""

    hyper: Hyperparameters

    def optimizer(self) -> Optimizer:
        optimizer = torch.optim.Adam(parameter_groups(self.network, self.hyper), fused=True)
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

    def measure(self, inputs: Tensor, labels: Tensor) -> Measured:
        response, output = self._answer(inputs)
        loss = nn.functional.cross_entropy(output, labels)
        return Measured(loss, (output.argmax(1) == labels).sum(), response.spikes.sum())

    def scores(self, inputs: Tensor) -> Tensor:
        return self._answer(inputs)[1]

    def _answer(self, inputs: Tensor) -> tuple[Response, Tensor]:
        response = self.network(as_input(inputs))
        return response, losses.summed_softmax(response.membrane)

    def after_epoch(self, optimizer: Optimizer, entry: dict, criterion: str) -> None:
        if self.plateau:
            self.plateau.step(entry[criterion])

    def state_dict(self) -> dict:
        return {"plateau": self.plateau.state_dict() if self.plateau else None}

    def load_state_dict(self, state: dict) -> None:
        if self.plateau:
            self.plateau.load_state_dict(state["plateau"])


def parameter_groups(network: nn.Module, hyper: Hyperparameters) -> list[dict]:
    """Every parameter named ``delay`` learns ``delay_rate_factor`` times as fast."""
    delays = [p for name, p in network.named_parameters() if name.rpartition(".")[2] == "delay"]
    others = [p for name, p in network.named_parameters() if name.rpartition(".")[2] != "delay"]
    groups = [{"params": others, "lr": hyper.learning_rate}]
    if delays:
        groups.append({"params": delays, "lr": hyper.learning_rate * hyper.delay_rate_factor})
    return groups
