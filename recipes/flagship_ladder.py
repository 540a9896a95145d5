"""From the network of Deckers et al. to the recommended one, in single steps, each on top of all before it."""

import dataclasses
from collections.abc import Sequence

from torch import nn

from . import flagship_shd
from .deckers.network import DeckersNetwork
from .engine.command.recipe import Row
from .flagship.network import FlagshipNetwork

_TO = flagship_shd.RECIPE
_STRENGTHS = _TO.source_of_data.settings["augmentation"]


@dataclasses.dataclass(frozen=True)
class Rung:
    """What changes from the rung below."""

    key: str
    name: str
    network: dict = dataclasses.field(default_factory=dict)
    training: dict = dataclasses.field(default_factory=dict)
    augmentation: tuple[str, ...] = ()


RUNGS = (
    Rung(
        "deckers",
        "AdLIF+, memoryless readout, dropout 0.5, batches of 128, constant rate of 0.01, as Deckers et al.",
        {"start": "Deckers", "neuron": "AdLIF+", "readout": "memoryless", "dropout": 0.5, "learned_step": True},
        {"batch_size": 128, "learning_rate": 0.01, "schedule": "constant", "average": 0.0, "weight_decay": 0.0},
    ),
    Rung("start", "no biases, weights as nn.Linear draws them, states from zero", {"start": "here"}),
    Rung("readout", "leaky readout", {"readout": "leaky"}),
    Rung("dropout", "dropout 0.2", {"dropout": 0.2}),
    Rung("silif", "SiLIF, time step as drawn", {"neuron": "SiLIF", "learned_step": False}),
    Rung("c-silif", "C-SiLIF, time step as drawn", {"neuron": "CSiLIF"}),
    Rung("time-step", "time step learned", {"learned_step": True}),
    Rung("schedule", "one-cycle rate up to 0.01", training={"schedule": "one-cycle"}),
    Rung("batch", "batches of 32", training={"batch_size": 32}),
    Rung("rate", "rate up to 0.004", training={"learning_rate": _TO.training.learning_rate}),
    Rung("average", "average of weights", training={"average": _TO.training.average}),
    Rung("decay", "weight decay 0.01", training={"weight_decay": _TO.training.weight_decay}),
    Rung("times", "times moved", augmentation=("time_shift", "time_stretch")),
    Rung("shifts", "channels shifted", augmentation=("channel_shift",)),
    Rung("size", "2 x 200 neurons, dropout 0.3", {"hidden": [200, 200], "dropout": 0.3}),
)


def _rows() -> tuple[Row, ...]:
    network, training, strengths, rows = {"hidden": [128, 128]}, {}, dict.fromkeys(_STRENGTHS, 0.0), []
    for rung in RUNGS:
        network, training = network | rung.network, training | rung.training
        strengths = strengths | {name: _STRENGTHS[name] for name in rung.augmentation}
        data = {"augmentation": {name: 0.0 for name, value in strengths.items() if not value}}
        name = rung.name if rung is RUNGS[0] else f"+ {rung.name}"
        rows.append(Row(rung.key, name, network, {}, training, data if data["augmentation"] else {}))
    return tuple(rows)


def network_of_rung(
    inputs: int,
    classes: int,
    *,
    start: str = "here",
    hidden: Sequence[int] = (128, 128),
    neuron: str = "AdLIF+",
    readout: str = "memoryless",
    dropout: float = 0.5,
    learned_step: bool = True,
) -> nn.Module:
    """``start`` "Deckers": biases in every layer, weights Xavier uniform, states from U(0, 1) in training; AdLIF+ and a
    memoryless readout. "here": :class:`~recipes.flagship.network.FlagshipNetwork`; without ``learned_step`` the time step
    of every SiLIF or C-SiLIF neuron stays as it was drawn. Raises ValueError for any other word."""
    if start == "Deckers":
        if (neuron, readout) != ("AdLIF+", "memoryless"):
            raise ValueError(f"the network of Deckers et al. has AdLIF+ and a memoryless readout, not {neuron}, {readout}")
        return DeckersNetwork(inputs, classes, hidden=hidden, dropout=dropout)
    if start != "here":
        raise ValueError(f"start must be Deckers or here, got {start!r}")
    network = FlagshipNetwork(inputs, classes, hidden=hidden, neuron=neuron, readout=readout, dropout=dropout)
    if not learned_step:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.endswith("log_dt"))
    return network


RECIPE = dataclasses.replace(
    _TO,
    name="flagship_ladder",
    title="From the network of Deckers et al. to the recommended one, in single steps",
    source="Deckers et al. (2023), Table 1; Fabre et al., arXiv 2506.06374; this package",
    rows=_rows(),
    network=network_of_rung,
    training=dataclasses.replace(_TO.training, epochs=20),
    seeds=2,
    smoke={"rows": ["deckers", "size"], "seeds": 1, "threads": 1, "training": {"epochs": 2, "batch_size": 48}},
)
