"""Networks and objectives of the EventProp-with-delays paper (Meszaros, Knight, Nowotny).

Times are in ms. The layers are SpikingJelly's front door; samples travel as :class:`snn_delay_plugins.SpikeEvents`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from snn_delay_plugins.eventprop import EventPropSpiking
from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional import losses
from snn_delay_plugins.spikingjelly import EventPropLI

from ..engine.training import limits, parallel
from ..engine.training.objectives import Measured, Moment, Objective
from .neurons import spiking_layer


@dataclasses.dataclass(frozen=True)
class EventPropTraining:
    """Adam with one rate for weights and one for delays (ms), and what the paper adds to it.

    Attributes:
        input_rate_factor: weights from the input learn so many times faster than the others.
        constant_learning_rate: of the neurons' learned constants (time constants in ms), which no network of the paper has.
        schedule: "decay", or "cosine": all rates rise from zero in the first twentieth of the training and fall
            to zero by its end, by half a cosine; without ``decay`` and ``ease_in``.
        centred: of the gradient of a hidden neuron's incoming weights the mean is taken away (Yong et al. 2020, gradient
            centralisation). All inputs excite or are silent, so that a step which all weights share changes the rate of
            the neuron many times more than any other, and Adam takes both alike.
        decay: all rates are multiplied by it after every epoch.
        ease_in: weights start at a hundredth of their rate and reach it in about 14 batches
            (:func:`snn_delay_plugins.functional.losses.ease_in`).
        regularisation: strength with which each hidden layer is pulled towards ``target_spikes`` per sample and
            neuron. mlGeNN's is this divided by tau_mem^2.
        bump: added to all incoming weights of every neuron that has been silent for a whole epoch.
        patience: stop when the criterion has not risen for so many epochs; None: never.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    delay_learning_rate: float
    decay: float = 1.0
    ease_in: bool = False
    regularisation: Sequence[float] = ()
    target_spikes: float = 14.0
    bump: float = 0.002
    patience: int | None = None
    constant_learning_rate: float = 0.0
    schedule: str = "decay"
    centred: bool = False
    input_rate_factor: float = 1.0

    def __post_init__(self):
        limits.check(vars(self))
        if self.schedule not in ("decay", "cosine"):
            raise ValueError(f"schedule {self.schedule!r}: use decay or cosine")
        if self.schedule == "cosine" and (self.decay != 1.0 or self.ease_in):
            raise ValueError("the cosine schedule has neither decay nor ease_in")

    def rate_factor(self, moment: Moment) -> float:
        """By which all rates are multiplied at this moment."""
        if self.schedule == "decay":
            return self.decay**moment.epoch
        steps = self.epochs * moment.batches
        rising = math.ceil(steps / 20)
        if moment.step < rising:
            return (moment.step + 1) / rising
        return 0.5 + 0.5 * math.cos(math.pi * (moment.step - rising) / (steps - rising))


class Response(NamedTuple):
    """What a network gives for a batch."""

    output: Tensor | SpikeEvents
    """Readout [N, classes], or the spikes of the output neurons."""
    hidden: list[SpikeEvents]
    """The spikes of each hidden layer."""


class VoltageNetwork(nn.Module):
    """Hidden LIF layers and leaky integrators whose membrane potential is read: sections 2.3 to 2.5.

    Args:
        inputs, classes: number of input channels and of classes.
        hidden: neurons per hidden layer.
        layers: number of hidden layers (the paper: 2 feed-forward ones, or 1 recurrent one).
        recurrent: every hidden layer has all-to-all connections to itself.
        delays: trainable delays on all connections but those to the output.
        initial_delay: feed-forward delays start uniform between 0 and this (at most ``max_delay``), recurrent ones at 0
            (ms).
        max_delay: cap of all delays (ms); the published scripts', which no learned delay comes near.
        input_weight, hidden_weight, recurrent_weight, output_weight: mean and standard deviation of the normal
            distribution of initial weights.
        weight_fan_in: the number of hidden neurons for which these are meant, but those of the input. Of a larger layer's
            weights the mean is that of as many inputs spread over more, and the standard deviation falls with the
            square root, so that what reaches a neuron does not depend on the size. None: as given, as published.
        readout: "weighted_integral" (by e^(-t/T)), "integral" or "maximum".
        readout_time: integrals are divided by this many ms; None: by the duration T, as mlGeNN's averages. It sets how
            large a logit one output spike of the hidden layer makes, and so how fast a weight learns.
        tau_mem, tau_syn: of all neurons.
        spike_times: "exact" or "grid", the published scheme in steps of ``dt``.
        neuron, learn, tau_adapt, a, b: of the hidden layers, see :func:`recipes.eventprop.neurons.spiking_layer`.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        hidden: int = 256,
        layers: int = 2,
        recurrent: bool = False,
        delays: bool = True,
        initial_delay: float = 0.0,
        max_delay: float = 1000.0,
        input_weight: tuple[float, float] = (0.03, 0.01),
        hidden_weight: tuple[float, float] = (0.02, 0.03),
        recurrent_weight: tuple[float, float] = (0.0, 0.02),
        output_weight: tuple[float, float] = (0.02, 0.03),
        weight_fan_in: int | None = None,
        readout: str = "weighted_integral",
        readout_time: float | None = None,
        tau_mem: float = 20.0,
        tau_syn: float = 5.0,
        dt: float = 1.0,
        spike_times: str = "exact",
        neuron: str = "lif",
        learn: Sequence[str] = (),
        tau_adapt: float = 100.0,
        a: float = 0.0,
        b: float = 0.1,
    ):
        super().__init__()
        membrane = {"tau_mem": tau_mem, "tau_syn": tau_syn, "dt": dt, "spike_times": spike_times}
        spiking = {"neuron": neuron, "learn": learn, "tau_adapt": tau_adapt, "a": a, "b": b, **membrane}
        widths = [inputs] + [hidden] * layers
        if weight_fan_in is not None and not weight_fan_in > 0:
            raise ValueError(f"weight_fan_in must be a positive number of neurons, or None; got {weight_fan_in}")
        share = 1.0 if weight_fan_in is None else min(1.0, weight_fan_in / hidden)

        def spread(weight: tuple[float, float]) -> tuple[float, float]:
            return weight[0] * share, weight[1] * share**0.5

        self.hidden = nn.ModuleList(
            spiking_layer(
                before,
                hidden,
                recurrent=recurrent,
                delay=torch.rand(hidden, before) * min(initial_delay, max_delay) if delays else None,
                recurrent_delay=0.0 if delays else None,
                max_delay=max_delay,
                weight_init=spread(hidden_weight) if number else input_weight,
                recurrent_weight_init=spread(recurrent_weight),
                **spiking,
            )
            for number, before in enumerate(widths[:-1])
        )
        self.readout = EventPropLI(hidden, classes, weight_init=spread(output_weight), readout=readout, **membrane)
        self.readout_time = 1.0 if readout == "maximum" else readout_time

    def forward(self, events: SpikeEvents) -> Response:
        hidden = []
        for layer in self.hidden:
            hidden.append(layer(hidden[-1] if hidden else events))
        return Response(self.readout(hidden[-1]) / (self.readout_time or events.duration), hidden)


class FirstSpikeNetwork(nn.Module):
    """One hidden LIF layer and LIF outputs, the first of which to spike is the answer: section 2.2.

    Args:
        hidden: neurons of the hidden layer.
        delays: trainable delays on all connections, at first ``initial_delay`` ms, capped at ``max_delay``.
        input_weight: mean and standard deviation of the initial weights.
        output_weight: likewise, times 30 / ``hidden``: what reaches an output does not depend on the layer's size.
        neuron, learn, tau_adapt, a, b: of hidden and output neurons, see
            :func:`recipes.eventprop.neurons.spiking_layer`.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        hidden: int = 30,
        delays: bool = True,
        initial_delay: float = 0.0,
        max_delay: float = 1000.0,
        input_weight: tuple[float, float] = (2.0, 0.78),
        output_weight: tuple[float, float] = (0.93, 0.1),
        tau_mem: float = 20.0,
        tau_syn: float = 5.0,
        dt: float = 1.0,
        spike_times: str = "exact",
        neuron: str = "lif",
        learn: Sequence[str] = (),
        tau_adapt: float = 100.0,
        a: float = 0.0,
        b: float = 0.1,
    ):
        super().__init__()
        membrane = {"tau_mem": tau_mem, "tau_syn": tau_syn, "dt": dt, "spike_times": spike_times}
        spiking = {"neuron": neuron, "learn": learn, "tau_adapt": tau_adapt, "a": a, "b": b, **membrane}
        delay = {"delay": initial_delay if delays else None, "max_delay": max_delay}
        scaled = tuple(value * 30 / hidden for value in output_weight)
        self.hidden = nn.ModuleList([spiking_layer(inputs, hidden, weight_init=input_weight, **delay, **spiking)])
        self.readout = spiking_layer(hidden, classes, weight_init=scaled, **delay, **spiking)

    def forward(self, events: SpikeEvents) -> Response:
        hidden = self.hidden[0](events)
        return Response(self.readout(hidden), [hidden])


class EventPropObjective(Objective):
    """What all trainings of the paper share; :meth:`judge` is the loss of one of them."""

    hyper: EventPropTraining
    runs_on_gpu = True
    mixed_precision = False  # spike times are no matter of 16 bits

    def judge(self, output: Tensor | SpikeEvents, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (mean over the samples) and predicted classes [N]."""
        raise NotImplementedError

    @property
    def spiking(self) -> list[EventPropSpiking]:
        """Every layer that has to spike to learn."""
        return [layer for layer in (*self.network.hidden, self.network.readout) if isinstance(layer, EventPropSpiking)]

    def scores(self, inputs: SpikeEvents) -> Tensor:
        return self.answer(self.network(inputs).output)

    def answer(self, output: Tensor | SpikeEvents) -> Tensor:
        """What a softmax makes probabilities of, [N, classes]."""
        raise NotImplementedError

    def _groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters of one kind (weights, delays, constants) and their learning rate."""
        hyper = self.hyper
        rates = {
            "weight": hyper.learning_rate,
            "delay": hyper.delay_learning_rate,
            "constant": hyper.constant_learning_rate,
            "input": hyper.learning_rate * hyper.input_rate_factor,
        }
        kinds: dict[str, list[nn.Parameter]] = {kind: [] for kind in rates}
        for name, parameter in self.network.named_parameters():
            kind = next((kind for kind in ("weight", "delay") if name.endswith(kind)), "constant")
            of_input = name == "hidden.0.weight" and hyper.input_rate_factor != 1.0
            kinds["input" if of_input else kind].append(parameter)
        return [(kinds[kind], rate) for kind, rate in rates.items() if kinds[kind]]

    def optimizer(self) -> Optimizer:
        if self.hyper.centred:
            for name, parameter in self.network.hidden.named_parameters():
                if name.endswith("weight"):
                    parameter.register_hook(lambda gradient: gradient - gradient.mean(1, keepdim=True))
        return torch.optim.Adam([{"params": parameters, "lr": rate} for parameters, rate in self._groups()])

    def before_epoch(self, epoch: int) -> None:
        self._spikes = [
            torch.zeros(layer.out_features, dtype=torch.int64, device=layer.weight.device) for layer in self.spiking
        ]

    def before_batch(self, optimizer: Optimizer, moment: Moment) -> None:
        factor = self.hyper.rate_factor(moment)
        for group, (_, rate) in zip(optimizer.param_groups, self._groups(), strict=True):
            group["lr"] = rate * factor
        if self.hyper.ease_in:
            weights, rate = optimizer.param_groups[0], self.hyper.learning_rate
            weights["lr"] = losses.ease_in(moment.step, rate, start=rate / 100) * factor

    def measure(self, inputs: SpikeEvents, labels: Tensor) -> Measured:
        response = self.network(inputs)
        loss, predicted = self.judge(response.output, labels)
        for strength, spikes in zip(self.hyper.regularisation, response.hidden, strict=False):
            mean = parallel.total(spikes.counts().sum(0)) / parallel.whole(spikes.batch_size)
            loss = loss + losses.spike_count_regularisation(
                spikes, strength, target=self.hyper.target_spikes, mean_counts=mean
            )
        if self.network.training:
            self._count(response)
        neurons = sum(spikes.num_units for spikes in response.hidden)
        count = torch.tensor(sum(len(spikes) for spikes in response.hidden) / neurons)
        return Measured(loss, (predicted == labels).sum(), count)

    def after_epoch(self, optimizer: Optimizer, entry: dict, criterion: str) -> None:
        for layer, spikes in zip(self.spiking, self._spikes, strict=True):
            losses.bump_silent_(layer.weight, parallel.total(spikes), self.hyper.bump)

    def finished(self, history: list[dict], criterion: str) -> bool:
        if self.hyper.patience is None:
            return False
        values = [entry[criterion] for entry in history]
        return len(values) - 1 - values.index(max(values)) >= self.hyper.patience

    def _count(self, response: Response) -> None:
        layers = [*response.hidden, response.output] if isinstance(response.output, SpikeEvents) else response.hidden
        for total, spikes in zip(self._spikes, layers, strict=True):
            total += spikes.counts().sum(0)


class VoltageCrossEntropy(EventPropObjective):
    """Cross-entropy of the readout [N, classes]."""

    def judge(self, output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return nn.functional.cross_entropy(output, labels), output.argmax(1)

    def answer(self, output: Tensor) -> Tensor:
        return output


@dataclasses.dataclass(frozen=True)
class FirstSpikeTraining(EventPropTraining):
    """``delta_t`` (ms): how much later than the true class the others are asked to spike (Eq. 71)."""

    delta_t: float = 2.0


class FirstSpikeError(EventPropObjective):
    """Time-invariant mean squared error of the first output spikes (Eq. 71).

    A sum over the outputs that have spiked: a wrong output that stays silent is late enough, and of a silent true one
    EventProp knows no gradient (:func:`snn_delay_plugins.functional.losses.bump_silent_` wakes it).
    """

    hyper: FirstSpikeTraining

    def judge(self, output: SpikeEvents, labels: Tensor) -> tuple[Tensor, Tensor]:
        times = output.first_spike_times(silent=output.duration)
        spoke = times.detach() < output.duration
        true = nn.functional.one_hot(labels, output.num_units).bool()
        gap = times - times.gather(1, labels[:, None]) - self.hyper.delta_t
        loss = 0.5 * (gap.square() * (spoke & ~true)).sum(1).mean()
        return loss, times.argmin(1)

    def answer(self, output: SpikeEvents) -> Tensor:
        """How early each output speaks, in units of ``delta_t``."""
        return -output.first_spike_times(silent=output.duration) / self.hyper.delta_t
