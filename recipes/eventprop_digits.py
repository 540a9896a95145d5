"""Beyond the paper: the spoken digits of :mod:`recipes.eventprop_shd`, thinned and trained for speed, with and without
delays. Adaptive neurons and learned constants are in :mod:`recipes.eventprop_digits_neurons`.

Chosen on the validation clips of DSP20: docs/results/eventprop_shd.md.
"""

from .engine.command.recipe import Row, TableRecipe
from .engine.data.events import Sampling, ShdEvents
from .engine.data.thinning import Thinning
from .eventprop.augmentation import ShiftAndBlend, ShiftStretchAndDrop
from .eventprop.network import EventPropTraining, VoltageCrossEntropy, VoltageNetwork

HIDDEN = (64, 128, 256)

RECIPE = TableRecipe(
    name="eventprop_digits",
    title="Spoken digits with delays, thinned and trained for speed",
    source="the task of Meszaros et al. (2025), Fig. 5, with fewer events and another training",
    paper_data="SHD",
    paper_protocol="best epoch by training accuracy",
    rows=tuple(
        Row(
            f"lif-fixed-{key}-{hidden}-grid",
            f"{hidden} LIF, {connections}, grid scheme at 4 ms",
            {"hidden": hidden, "delays": delays, "initial_delay": 150.0 if delays else 0.0},
            {},
        )
        for delays, key, connections in ((False, "weights", "weights only"), (True, "delays", "weights and delays"))
        for hidden in HIDDEN
    ),
    network=VoltageNetwork,
    network_settings={
        "neuron": "lif",
        "learn": [],
        "spike_times": "grid",
        "dt": 4.0,
        "layers": 1,
        "recurrent": True,
        # N(0.08, 0.04), scaled by snn_delay_plugins.calibrate to 10 spikes per neuron and clip
        "input_weight": [0.067, 0.034],
        "recurrent_weight": [0.0, 0.02],
        "output_weight": [0.02, 0.03],
        "weight_fan_in": 128,
        "readout_time": 5.0,
    },
    training=EventPropTraining(
        epochs=48,
        batch_size=16,
        learning_rate=5e-3,
        input_rate_factor=2.0,
        delay_learning_rate=1.0,
        constant_learning_rate=0.02,
        regularisation=(2e-8,),
        bump=0.008,
        schedule="cosine",
        centred=True,
    ),
    objective=VoltageCrossEntropy,
    source_of_data=ShdEvents(
        Sampling(duration=1000.0, resolution=1.0),
        {
            "shift+stretch+drop": ShiftStretchAndDrop(8, blended=0.0, stretched=0.1, dropped=0.4),
            "shift": ShiftAndBlend(8, blended=0.0),
            "none": None,
        },
        "shift+stretch+drop",
        paper_criterion="valid_accuracy",
        thinning=Thinning(merged=5, every=8),
    ),
    seeds=3,
    protocol="clean",
    smoke={
        "rows": ("lif-fixed-delays-64-grid",),
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.01},
        "network": {"input_weight": [0.6, 0.3]},
    },
    figures=("accuracy", "learning_curves"),
)
