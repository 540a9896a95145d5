"""Beyond the paper: the spoken digits of :mod:`recipes.eventprop_shd`, thinned and trained for speed, with LIF and adaptive
neurons, fixed and learned constants, with and without delays.

Chosen on the validation clips of DSP20: docs/results/eventprop_shd.md.
"""

from .engine.command.recipe import Row, TableRecipe
from .engine.data.events import Sampling, ShdEvents
from .engine.data.thinning import Thinning
from .eventprop.augmentation import ShiftAndBlend, ShiftStretchAndDrop
from .eventprop.network import EventPropTraining, VoltageCrossEntropy, VoltageNetwork
from .eventprop_yinyang_neurons import NEURONS

HIDDEN = (64, 128, 256)
GRID = {"spike_times": "grid", "dt": 4.0}  # of the fast rows: LIF with fixed constants
# A spike at a recurrent delay of zero has every neuron of the layer solved again: three times the cost of a step.
EXACT = {"spike_times": "exact", "dt": 4.0, "recurrent": False}


def _row(neuron: str, learned: bool, delays: bool, hidden: int, fast: bool) -> Row:
    name, settings, constants = NEURONS[neuron]
    what = "learned" if learned else "fixed"
    return Row(
        f"{neuron}-{what}-{'delays' if delays else 'weights'}-{hidden}" + ("-grid" if fast else ""),
        f"{hidden} {name}, {what} constants, {'weights and delays' if delays else 'weights only'}"
        + (", grid scheme at 4 ms" if fast else ", feed-forward"),
        {
            "hidden": hidden,
            "delays": delays,
            "initial_delay": 150.0 if delays else 0.0,
            "learn": list(constants) if learned else [],
            **settings,
            **(GRID if fast else EXACT),
        },
        {},
    )


RECIPE = TableRecipe(
    name="eventprop_digits",
    title="Spoken digits with LIF and adaptive neurons, learned constants and delays",
    source="the task of Meszaros et al. (2025), Fig. 5, with fewer events, and with neurons that are not in the paper",
    paper_data="SHD",
    paper_protocol="best epoch by training accuracy",
    rows=tuple(_row("lif", False, delays, hidden, True) for delays in (False, True) for hidden in HIDDEN)
    + tuple(
        _row(neuron, learned, delays, 64, False)
        for neuron in NEURONS
        for learned in (False, True)
        for delays in (False, True)
    ),
    network=VoltageNetwork,
    network_settings={
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
        "rows": ("lif-fixed-delays-64-grid",),  # the exact rows take minutes
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.01},
        "network": {"input_weight": [1.0, 0.5]},
    },
    figures=("accuracy", "learning_curves"),
)
