"""Networks and training of Hammouamri et al., *Learning Delays in Spiking Neural Networks using Dilated Convolutions
with Learnable Spacings*, section 4.1 and the published code."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn
from torch.optim import Optimizer

from snn_delay_plugins.functional.dcls import parameters_from_dcls
from snn_delay_plugins.schedules import FINAL_SIGMA, ExponentialSigma, PublishedSigma, anneal_sigma
from snn_delay_plugins.spikingjelly import DelayedLinear

from ..engine.data.binned import BinnedCounts, Binning
from ..engine.data.heidelberg import SHD
from ..engine.files.downloads import Published
from ..engine.training import limits
from ..engine.training.dropout import DropoutOverTime
from ..engine.training.networks import HiddenLayer, NormOverTime, Response
from ..engine.training.objectives import Moment, SummedSoftmax

CONNECTIONS = ("learned delays", "fixed random delays", "no delays")
WATCHED = 8
_ATAN = surrogate.ATan(alpha=5.0)


class HammouamriNetwork(nn.Module):
    """Any number of hidden layers, each delays -> batch normalisation over time and batch -> LIF -> dropout, and a
    readout of delays -> leaky integrators; no biases.

    Args:
        inputs, classes: number of input channels and of classes.
        hidden: neurons per hidden layer.
        time_constant: tau of the membrane in time steps; u[t] = (1 - 1/tau) u[t-1] + I[t] (Eq. 3).
        max_delay: T_d - 1 in time steps.
        connections: "learned delays" (through a Gaussian), "fixed random delays" (the same initial delays, rounded, in
            training as in evaluation) or "no delays".
        learn_weights: False keeps the synaptic weights as they were drawn.
        synapses: per neuron, from random senders; None: from all.
        dropout: share of the hidden neurons dropped; one mask for all time steps of a sample.

    Initial weights are Kaiming uniform, initial delays uniform between 0 and T_d, clamped to ``max_delay``, as in the
    published code. A seed gives networks of equal sizes the same weights, delays and synapses, whatever of them is
    learned. Every layer with delays appends max_delay // 2 silent steps, as in the published code.

    Shapes: inputs ``[T, N, inputs]``; output :class:`Response` with T + (layers * max_delay // 2) steps.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        hidden: Sequence[int] = (256, 256),
        time_constant: float = 1.005,
        max_delay: int = 24,
        connections: str = "learned delays",
        learn_weights: bool = True,
        synapses: int | None = None,
        dropout: float = 0.4,
    ):
        super().__init__()
        if connections not in CONNECTIONS:
            raise ValueError(f"connections must be one of {CONNECTIONS}, got {connections!r}")

        def connection(before: int, after: int) -> DelayedLinear:
            learned = connections == "learned delays"
            longest = 0 if connections == "no delays" else max_delay
            made = DelayedLinear(
                before,
                after,
                bias=False,
                max_delay=longest,
                learn_delay=learned,
                delay_gradient="gaussian" if learned else "slayer",
                interpolation="linear" if learned else "round",
                padding=longest // 2,
                synapses=synapses,
                step_mode="m",
            )
            made.weight.requires_grad_(learn_weights)
            return made

        widths = [inputs, *hidden]
        self.hidden = nn.ModuleList(
            HiddenLayer(
                connection(before, width),
                NormOverTime(width),
                _lif(time_constant, threshold=1.0),
                DropoutOverTime(dropout, step_mode="m"),
            )
            for before, width in pairwise(widths)
        )
        self.readout = connection(widths[-1], classes)
        self.integrator = _lif(time_constant, threshold=1e9)
        self.integrator.store_v_seq = True
        self._initialise(max_delay)

    @property
    def connections(self) -> list[DelayedLinear]:
        return [hidden.connection for hidden in self.hidden] + [self.readout]

    def _initialise(self, max_delay: int) -> None:
        with torch.no_grad():
            for made in self.connections:
                nn.init.kaiming_uniform_(made.weight, nonlinearity="relu")
                if made.mask is not None:
                    made.weight.mul_(made.mask)
            for made in self.connections:
                if made.max_delay:
                    made.delay.uniform_(0, max_delay + 1).clamp_(max=max_delay)
                    if not made.learn_delay:
                        made.delay.round_()

    def count_parameters(self) -> int:
        """As the paper counts: a weight and a delay for every synapse that exists, learned or not, and the
        normalisation."""
        per_synapse = 2 if self.readout.max_delay else 1
        synapses = sum(int(c.weight.numel() if c.mask is None else c.mask.sum()) for c in self.connections)
        return per_synapse * synapses + sum(p.numel() for hidden in self.hidden for p in hidden.norm.parameters())

    def forward(self, x: Tensor) -> Response:
        functional.reset_net(self)
        total, neurons = 0.0, 0
        for hidden in self.hidden:
            x, spikes = hidden(x)
            total = total + spikes.detach().sum((0, 2))
            neurons += spikes.shape[2]
        self.integrator(self.readout(x))
        return Response(self.integrator.v_seq, total / neurons)

    def load_published(self, state: dict[str, Tensor]) -> None:
        """Take the parameters of a model of the published code (``SnnDelays``) of the same sizes.

        Raises RuntimeError where names or sizes do not fit, ValueError for positions outside the kernel.
        """
        converted = parameters_from_dcls(state, self.readout.max_delay)
        places = [f"hidden.{i}.{part}" for i in range(len(self.hidden)) for part in ("connection", "norm", None, None)]
        places.append("readout")
        ours = {}
        for name, value in converted.items():
            _, number, last = name.split(".")  # model.NUMBER.PARAMETER
            ours[f"{places[int(number)]}.{last}"] = value
        self.load_state_dict(ours)


def _lif(time_constant: float, threshold: float) -> neuron.LIFNode:
    return neuron.LIFNode(
        tau=time_constant,
        decay_input=False,
        v_threshold=threshold,
        v_reset=0.0,
        surrogate_function=_ATAN,
        detach_reset=True,
        step_mode="m",
    )


@dataclasses.dataclass(frozen=True)
class DclsTraining:
    """How a network with delays is trained: Adam, weights by a one-cycle schedule, delays by cosine annealing to zero,
    both stepped by the epoch. ``sigma``: "published" (exponential in the first quarter of the epochs), "text"
    (exponential over all of them) or "constant" at 0.5."""

    epochs: int
    batch_size: int
    weight_rate: float = 5e-3
    delay_rate: float = 0.1
    weight_decay: float = 1e-5
    sigma: str = "published"

    def __post_init__(self):
        limits.check(vars(self))
        if self.sigma not in ("published", "text", "constant"):
            raise ValueError(f'sigma must be "published", "text" or "constant", got {self.sigma!r}')


class DclsObjective(SummedSoftmax):
    """Cross-entropy of the softmax summed over time (Eq. 11-13). Weight decay for synaptic weights alone.

    ``watched`` keeps, in every checkpoint, how the kernels of the first :data:`WATCHED` neurons of each layer stood
    before the first epoch and half-way down the published annealing (Fig. 4).
    """

    hyper: DclsTraining

    def __init__(self, network: HammouamriNetwork, hyper: DclsTraining):
        super().__init__(network, hyper)
        self.watched: list[dict] = []

    def optimizer(self) -> Optimizer:
        self.plateau = None  # of the base class: rates follow the epoch alone
        kinds = {"weight": [], "delay": [], "norm": []}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                last = name.rpartition(".")[2]
                kinds["norm" if ".norm." in name else last].append(parameter)
        self._weight_schedule = _one_cycle(self.hyper.weight_rate, self.hyper.epochs)
        decay = {"weight": self.hyper.weight_decay, "delay": 0.0, "norm": 0.0}
        groups = [
            {"params": parameters, "weight_decay": decay[kind], "kind": kind, "lr": 0.0}
            for kind, parameters in kinds.items()
            if parameters
        ]
        return torch.optim.Adam(groups)

    def before_epoch(self, epoch: int) -> None:
        gaussian = [c for c in self.network.connections if c.delay_gradient == "gaussian"]
        if gaussian:
            anneal_sigma(self.network, _sigma_schedule(self.hyper, gaussian[0].max_delay), epoch)
            if epoch in (0, max(1, self.hyper.epochs // 8)):
                self.watched.append({"epoch": epoch, "layers": kernel_parameters(self.network)})

    def state_dict(self) -> dict:
        return {"watched": self.watched}

    def load_state_dict(self, state: dict) -> None:
        self.watched = state.get("watched", [])

    def before_batch(self, optimizer: Optimizer, moment: Moment) -> None:
        for group in optimizer.param_groups:
            if group["kind"] == "delay":
                group["lr"] = _cosine(self.hyper.delay_rate, moment.epoch, self.hyper.epochs)
            else:
                group["lr"], first_beta = self._weight_schedule[moment.epoch]
                group["betas"] = (first_beta, group["betas"][1])


def kernel_parameters(network: HammouamriNetwork, neurons: int = WATCHED) -> list[dict[str, Tensor | float]]:
    """weight and delay ``[neurons, in]`` and sigma of every layer, as they are now."""
    return [
        {
            "weight": made.weight.detach()[:neurons].clone().cpu(),
            "delay": made.delay.detach()[:neurons].clone().cpu(),
            "sigma": float(made.sigma),
        }
        for made in network.connections
    ]


def _sigma_schedule(hyper: DclsTraining, max_delay: int) -> Callable[[int], float]:
    published = PublishedSigma(hyper.epochs, max_delay)
    if hyper.sigma == "published":
        return published
    if hyper.sigma == "text":
        return ExponentialSigma(hyper.epochs, initial=published(0))
    return lambda epoch: FINAL_SIGMA


def _one_cycle(max_rate: float, epochs: int) -> list[tuple[float, float]]:
    """(learning rate, first beta of Adam) of every epoch, of torch's one-cycle schedule."""
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(()))])
    steps = max(epochs, 2)  # torch divides by the number of steps minus one
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=max_rate, total_steps=steps)
    values = []
    for step in range(epochs):
        group = optimizer.param_groups[0]
        values.append((group["lr"], group["betas"][0]))
        optimizer.step()
        if step + 1 < steps:
            schedule.step()
    return values


def _cosine(rate: float, epoch: int, epochs: int) -> float:
    return rate * (1 + math.cos(math.pi * epoch / epochs)) / 2


class TimedCounts(BinnedCounts):
    """Recordings in SHD's format in steps of 10 ms, 5 channels summed; ``duration`` (s) is how long a sample is.

    The published code pads every batch to its longest recording, so that the result of a sample depends on the others
    of its batch; here all samples have the same length.
    """

    def __init__(self, duration: float, published: Published = SHD, paper_criterion: str = "test_accuracy"):
        super().__init__(Binning(duration=duration, steps=round(duration / 0.01), group=5), published, paper_criterion)
