"""What the tests of parallel training build in other processes, which find it by the name of this module."""

import torch
from torch import nn

from recipes.dcls.network import DclsObjective, DclsTraining, HammouamriNetwork
from recipes.deckers.network import DeckersNetwork
from recipes.engine.training import trainer
from recipes.engine.training.hardware import Hardware
from recipes.engine.training.hyperparameters import Hyperparameters
from recipes.engine.training.networks import Response
from recipes.engine.training.objectives import Objective, SummedSoftmax
from recipes.eventprop.network import (
    EventPropTraining,
    FirstSpikeError,
    FirstSpikeNetwork,
    FirstSpikeTraining,
    VoltageCrossEntropy,
    VoltageNetwork,
)


def deckers() -> Objective:
    hyper = Hyperparameters(2, 10, 0.02, delay_rate_factor=10.0, plateau_factor=0.3, plateau_patience=0)
    return SummedSoftmax(DeckersNetwork(140, 4, hidden=(16, 16), max_delay=3, channel_shift=8), hyper)


def deckers_float64() -> Objective:
    torch.set_default_dtype(torch.float64)
    return deckers()


def hammouamri() -> Objective:
    return DclsObjective(HammouamriNetwork(140, 4, hidden=(16, 16), max_delay=6), DclsTraining(2, 10))


def voltage() -> Objective:
    network = VoltageNetwork(
        700, 4, hidden=16, layers=1, recurrent=True, initial_delay=20.0, input_weight=(0.6, 0.3), spike_times="grid"
    )
    hyper = EventPropTraining(2, 10, 0.01, 0.5, ease_in=True, regularisation=(1e-2,), target_spikes=3.0, bump=0.05)
    return VoltageCrossEntropy(network, hyper)


def first_spike() -> Objective:
    network = FirstSpikeNetwork(4, 3, hidden=8, input_weight=(2.5, 1.2), output_weight=(1.0, 1.0))
    return FirstSpikeError(network, FirstSpikeTraining(2, 22, 0.01, 0.1, decay=0.8, bump=0.05))


class Foreign(nn.Module):
    """A network that knows nothing of parallel training."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(140, 4), nn.BatchNorm1d(4))

    def forward(self, x):
        return Response(self.layer(x.flatten(0, 1)).view(*x.shape[:2], 4), torch.zeros(x.shape[1]))


def foreign() -> Objective:
    return SummedSoftmax(Foreign(), Hyperparameters(1, 10, 0.01))


def train_all(report, cases: list[tuple], hardware: Hardware) -> list[dict]:
    """Several trainings, one after the other, in processes that start once."""
    results = []
    for build, splits, folder in cases:
        results.append(trainer._train(report, build, lambda of=splits: of, 0, folder, hardware, False))
        torch.set_default_dtype(torch.float32)
    return results
