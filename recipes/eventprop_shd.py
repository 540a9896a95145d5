"""Meszaros et al., Fig. 5: spoken digits with feed-forward and recurrent networks, with and without delays."""

from .engine.command.recipe import Row, TableRecipe
from .engine.data.events import Sampling, ShdEvents
from .eventprop.augmentation import ShiftAndBlend
from .eventprop.network import EventPropTraining, VoltageCrossEntropy, VoltageNetwork

HIDDEN = (64, 128, 256, 512, 1024)
# The text gives two of the figure's points: this one, and 93.5 +- 0.7 of a network with ten delay lines.
PAPER = {("recurrent", True, 512): {"mean": 93.24, "std": 1.0}}
# name, shape, regularisation of each layer (mlGeNN's 5e-12 and 5e-11, times tau_mem^2), longest initial delay
ARCHITECTURES = {
    "feedforward": ("2 feed-forward layers", {"layers": 2, "recurrent": False}, (2e-9, 2e-8), 100.0),
    "recurrent": ("1 recurrent layer", {"layers": 1, "recurrent": True}, (2e-8,), 150.0),
}


def rows(architectures: dict, published: dict) -> tuple[Row, ...]:
    """Every architecture in every size with and without trainable delays, beside what has been ``published`` of it."""
    return tuple(
        Row(
            f"{key}-{hidden}-{'delays' if delays else 'weights'}",
            f"{hidden} hidden, {name}, {'weights and delays' if delays else 'weights only'}",
            {"hidden": hidden, "delays": delays, "initial_delay": longest if delays else 0.0, **shape},
            published.get((key, delays, hidden), {}),
            {"regularisation": list(strength)},
        )
        for key, (name, shape, strength, longest) in architectures.items()
        for delays in (False, True)
        for hidden in HIDDEN
    )


RECIPE = TableRecipe(
    name="eventprop_shd",
    title="Spoken digits with and without trainable delays: Meszaros et al., Fig. 5",
    source="Meszaros, Knight, Nowotny: Efficient event-based delay learning in spiking neural networks (2025), Fig. 5, "
    "section 2.3, Table 3",
    paper_data="SHD",
    paper_protocol="best epoch by training accuracy, stopped when it has not risen for 15 epochs",
    rows=rows(ARCHITECTURES, PAPER),
    network=VoltageNetwork,
    network_settings={
        "dt": 1.0,
        "spike_times": "exact",
        "input_weight": [0.03, 0.01],
        "hidden_weight": [0.02, 0.03],
        "recurrent_weight": [0.0, 0.02],
        "output_weight": [0.02, 0.03],
        "readout_time": None,
    },
    training=EventPropTraining(
        epochs=100, batch_size=256, learning_rate=1e-3, delay_learning_rate=0.1, ease_in=True, patience=15
    ),
    objective=VoltageCrossEntropy,
    source_of_data=ShdEvents(
        Sampling(duration=1000.0, resolution=1.0),
        {"shift+blend": ShiftAndBlend(40, blended=0.94), "shift": ShiftAndBlend(40, blended=0.0), "none": None},
        "shift+blend",
    ),
    seeds=8,
    protocol="clean",
    smoke={
        "rows": tuple(f"{key}-64-{what}" for key in ARCHITECTURES for what in ("weights", "delays")),
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.01},
        "network": {"input_weight": [0.6, 0.3], "hidden_weight": [0.3, 0.1], "spike_times": "grid"},
    },
    figures=("accuracy_over_hidden", "learning_curves"),
)
