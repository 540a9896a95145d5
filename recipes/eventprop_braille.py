"""Meszaros et al., Fig. 7: Braille letters with feed-forward and recurrent networks, with and without delays."""

from .engine.command.recipe import Row, TableRecipe
from .eventprop.braille import Braille
from .eventprop.network import EventPropTraining, VoltageCrossEntropy, VoltageNetwork

HIDDEN = (64, 128, 256, 512, 1024)
# The text gives two of the figure's points, both of the feed-forward network with delays.
PAPER = {("feedforward", True, 1024): {"mean": 83.1, "std": 1.5}, ("feedforward", True, 256): {"mean": 81.0, "std": 0.7}}
ARCHITECTURES = {
    "feedforward": ("2 feed-forward layers", {"layers": 2, "recurrent": False}),
    "recurrent": ("1 recurrent layer", {"layers": 1, "recurrent": True}),
}

RECIPE = TableRecipe(
    name="eventprop_braille",
    title="Braille letters with and without trainable delays: Meszaros et al., Fig. 7",
    source="Meszaros, Knight, Nowotny: Efficient event-based delay learning in spiking neural networks (2025), Fig. 7, "
    "section 2.5, Table 5",
    paper_data="Braille",
    paper_protocol="test accuracy of the best validation epoch",
    rows=tuple(
        Row(
            f"{key}-{hidden}-{'delays' if delays else 'weights'}",
            f"{hidden} hidden, {name}, {'weights and delays' if delays else 'weights only'}",
            {"hidden": hidden, "delays": delays, **shape},
            PAPER.get((key, delays, hidden), {}),
        )
        for key, (name, shape) in ARCHITECTURES.items()
        for delays in (False, True)
        for hidden in HIDDEN
    ),
    network=VoltageNetwork,
    network_settings={
        "initial_delay": 0.0,
        "dt": 4.0,
        "spike_times": "grid",  # as published; "exact" learns more per epoch and takes several times as long
        # With the paper's weights, 24 channels and about 40 events a sample no neuron fires.
        "input_weight": [1.5, 1.5],
        "hidden_weight": [0.25, 0.5],
        "recurrent_weight": [0.0, 0.1],
        "output_weight": [0.0, 0.1],
        "weight_fan_in": 64,  # with the same weights at every size, two layers of 256 hardly learn
        "readout_time": 10.0,
    },
    training=EventPropTraining(
        epochs=40,
        batch_size=64,
        learning_rate=0.01,
        delay_learning_rate=1.0,  # ms
        decay=0.97,
        regularisation=(4e-8, 4e-8),  # mlGeNN's 1e-10, times tau_mem^2
        bump=0.002,
    ),
    objective=VoltageCrossEntropy,
    source_of_data=Braille(),
    seeds=8,
    paper_instead={
        "epochs": "500",
        "batch_size": "256",
        "learning_rate": "0.0015",
        "delay_learning_rate": "0.1 ms (0.025 steps of 4 ms)",
        "input_weight": "[0.03, 0.01]",
        "hidden_weight": "[0.02, 0.03]",
    },
    protocol="clean",
    smoke={
        "rows": tuple(f"{key}-64-{what}" for key in ARCHITECTURES for what in ("weights", "delays")),
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 2, "batch_size": 30},
    },
    figures=("accuracy_over_hidden", "learning_curves"),
)
