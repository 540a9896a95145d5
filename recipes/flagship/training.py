"""How the flagship is trained: AdamW on the summed softmax, a schedule by the batch, an average of weights."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from ..engine.training import limits, losses, parallel
from ..engine.training.averages import WeightAverage
from ..engine.training.networks import as_input
from ..engine.training.objectives import Measured, Moment, Objective
from ..engine.training.schedules import SCHEDULES, share_done


@dataclasses.dataclass(frozen=True)
class FlagshipTraining:
    """The numbers of the training.

    ``schedule``: of the learning rates, a name in :data:`recipes.engine.training.schedules.SCHEDULES`. Delays, in steps,
    learn ``delay_rate_factor`` times as fast. ``weight_decay`` (decoupled) is for weights of synapses alone.
    ``average``: decay per batch of the moving average of weights that is evaluated and kept (0: none).
    ``label_smoothing``: share of the target that all classes have alike. The mean squared excess of the
    neurons' rates (spikes per step) over ``most_spikes`` is added to the loss, ``spike_cost`` times.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 5e-3
    delay_rate_factor: float = 10.0
    schedule: str = "one-cycle"
    weight_decay: float = 0.0
    average: float = 0.99
    label_smoothing: float = 0.0
    spike_cost: float = 0.0
    most_spikes: float = 0.0

    def __post_init__(self):
        limits.check(vars(self))
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")


class FlagshipObjective(Objective):
    """Cross-entropy of the softmax summed over time, for any network that maps counts to a Response."""

    hyper: FlagshipTraining

    def optimizer(self) -> Optimizer:
        kinds = {"weight": [], "delay": [], "other": []}
        for name, parameter in self.network.named_parameters():
            last = name.rpartition(".")[2]
            kinds["delay" if last == "delay" else "weight" if parameter.dim() == 2 else "other"].append(parameter)
        rates = {"delay": self.hyper.learning_rate * self.hyper.delay_rate_factor}
        groups = [
            {
                "params": parameters,
                "lr": rates.get(kind, self.hyper.learning_rate),
                "full_rate": rates.get(kind, self.hyper.learning_rate),
                "weight_decay": self.hyper.weight_decay if kind == "weight" else 0.0,
            }
            for kind, parameters in kinds.items()
            if parameters
        ]
        self.average = WeightAverage(self.network, self.hyper.average)
        optimizer = torch.optim.AdamW(groups, fused=True)
        optimizer.register_step_post_hook(lambda *_: self.average.update())
        return optimizer

    def measure(self, inputs: Tensor, labels: Tensor) -> Measured:
        response = self.network(as_input(inputs))
        output = losses.summed_softmax(response.membrane)
        smoothing = self.hyper.label_smoothing if self.network.training else 0.0
        loss = functional.cross_entropy(output, labels, label_smoothing=smoothing)
        if self.hyper.spike_cost and response.rates is not None:
            rates = parallel.mean(response.rates, len(labels))
            loss = loss + self.hyper.spike_cost * losses.rates_above(rates, self.hyper.most_spikes)
        return Measured(loss, (output.argmax(1) == labels).sum(), response.spikes.sum())

    def scores(self, inputs: Tensor) -> Tensor:
        return losses.summed_softmax(self.network(as_input(inputs)).membrane)

    def before_batch(self, optimizer: Optimizer, moment: Moment) -> None:
        factor = SCHEDULES[self.hyper.schedule](share_done(moment, self.hyper.epochs))
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * factor

    def before_evaluation(self) -> None:
        if self.hyper.average:
            self.average.swap_in()

    def after_epoch(self, optimizer: Optimizer, entry: dict, criterion: str) -> None:
        self.average.swap_back()

    def state_dict(self) -> dict:
        return {"average": self.average.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.average.load_state_dict(state["average"])
