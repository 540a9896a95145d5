"""Beyond the paper: Yin-Yang with LIF and adaptive neurons, fixed and learned constants, with and without delays."""

import dataclasses

from . import eventprop_yinyang
from .engine.command.recipe import Row

HIDDEN = 15
ADAPTATION = {"tau_adapt": 50.0, "a": 0.0, "b": 0.2}
# name, settings, learned constants
NEURONS = {
    "lif": ("LIF", {"neuron": "lif"}, ("tau_mem", "tau_syn")),
    "adlif": ("AdLIF", {"neuron": "adlif", **ADAPTATION}, ("tau_mem", "tau_syn", "tau_adapt", "a", "b")),
}

RECIPE = dataclasses.replace(
    eventprop_yinyang.RECIPE,
    name="eventprop_yinyang_neurons",
    title="Yin-Yang with LIF and adaptive neurons, learned constants and delays",
    source="the task of Meszaros et al. (2025), Fig. 4, with neurons that are not in the paper",
    rows=tuple(
        Row(
            f"{neuron}-{'learned' if learned else 'fixed'}-{key}",
            f"{name}, {'learned' if learned else 'fixed'} constants, {connections}",
            {"hidden": HIDDEN, "delays": delays, "learn": list(constants) if learned else [], **settings},
            {},
            training,
        )
        for neuron, (name, settings, constants) in NEURONS.items()
        for learned in (False, True)
        for delays, key, connections, training in (
            (False, "weights", "weights only", {"learning_rate": 0.02}),
            (True, "delays", "weights and delays", {"learning_rate": 0.01}),
        )
    ),
    training=dataclasses.replace(eventprop_yinyang.RECIPE.training, epochs=40, decay=0.92, constant_learning_rate=0.02),
    seeds=3,
    paper_instead={},
    smoke={
        "rows": ("lif-learned-weights", "adlif-fixed-weights", "adlif-learned-delays"),
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 2, "batch_size": 60},
    },
    figures=("accuracy", "learning_curves"),
)
