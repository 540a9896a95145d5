"""Beyond the paper: the spoken digits of :mod:`recipes.eventprop_digits` with LIF and adaptive neurons, fixed and learned
constants, with and without delays, all in the exact scheme.

What adaptation and learned constants add, not how far the task can be taken: a quarter of the events of
:mod:`recipes.eventprop_digits`, each of four times the weight, 32 neurons without recurrence.
"""

import dataclasses

from . import eventprop_digits
from .engine.command.recipe import Row
from .engine.data.thinning import Thinning
from .eventprop_yinyang_neurons import NEURONS

RECIPE = dataclasses.replace(
    eventprop_digits.RECIPE,
    name="eventprop_digits_neurons",
    title="Spoken digits with LIF and adaptive neurons, learned constants and delays",
    source="the task of Meszaros et al. (2025), Fig. 5, with fewer events, and with neurons that are not in the paper",
    rows=tuple(
        Row(
            f"{neuron}-{'learned' if learned else 'fixed'}-{'delays' if delays else 'weights'}",
            f"{name}, {'learned' if learned else 'fixed'} constants, {'weights and delays' if delays else 'weights only'}",
            {
                "delays": delays,
                "initial_delay": 150.0 if delays else 0.0,
                "learn": list(constants) if learned else [],
                **settings,
            },
            {},
        )
        for neuron, (name, settings, constants) in NEURONS.items()
        for learned in (False, True)
        for delays in (False, True)
    ),
    network_settings={
        "layers": 1,
        "hidden": 32,
        "input_weight": [0.2, 0.1],
        "output_weight": [0.02, 0.03],
        "readout_time": 5.0,
        "spike_times": "exact",
        "dt": 4.0,
    },
    training=dataclasses.replace(eventprop_digits.RECIPE.training, epochs=24, input_rate_factor=8.0, bump=0.032),
    source_of_data=dataclasses.replace(eventprop_digits.RECIPE.source_of_data, thinning=Thinning(merged=5, every=32)),
    smoke={
        "rows": ("lif-fixed-weights", "adlif-learned-delays"),
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 1, "batch_size": 32},
        "network": {"input_weight": [0.6, 0.3]},
    },
)
