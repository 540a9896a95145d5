"""The recommended network on Braille letters, beside EventProp's (eventprop_braille)."""

import dataclasses

from . import flagship_shd
from .engine.command.recipe import Row
from .engine.data.binned_events import BinnedEvents
from .eventprop.braille import Braille

_WITH = flagship_shd.RECIPE

RECIPE = dataclasses.replace(
    _WITH,
    name="flagship_braille",
    title="The recommended network on Braille letters",
    rows=(
        Row("128", "C-SiLIF, two layers of 128", {"hidden": [128, 128]}, {}),
        Row("256", "C-SiLIF, two layers of 256", {"hidden": [256, 256]}, {}),
    ),
    network_settings={"dropout": 0.3},
    training=dataclasses.replace(_WITH.training, epochs=25),
    source_of_data=BinnedEvents(
        Braille(),
        20.0,  # ms
        {
            "time_stretch": 0.1,
            "time_shift": 50.0,  # ms
            "time_jitter": 5.0,
            "event_drop": 0.1,
        },
    ),
    seeds=3,
    smoke=_WITH.smoke | {"rows": ["128"], "training": {"epochs": 2, "batch_size": 30}},
)
