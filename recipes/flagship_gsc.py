"""The recommended network on spoken commands as sound (Speech Commands' layout)."""

import dataclasses

from . import flagship_shd
from .engine.command.recipe import Row
from .engine.data.augmented_speech import AugmentedSpeech
from .engine.data.speech_commands import LevelledMelSpectrogram

_WITH = flagship_shd.RECIPE

RECIPE = dataclasses.replace(
    _WITH,
    name="flagship_gsc",
    title="The recommended network on spoken commands as sound",
    rows=(Row("80k", "C-SiLIF, two layers of 256", {"hidden": [256, 256]}, {}),),
    network_settings={"dropout": 0.1},
    training=dataclasses.replace(_WITH.training, epochs=50),
    source_of_data=AugmentedSpeech(
        LevelledMelSpectrogram(rate=16000, window=400, hop=160, bands=40, lowest=20.0, highest=8000.0),
        {
            "speed": 0.1,
            "time_shift": 100.0,  # ms
            "noise": 0.1,
            "band_stretch": 0.1,
            "time_mask": 0.05,
            "band_mask": 0.1,
        },
    ),
    seeds=3,
    smoke=_WITH.smoke | {"rows": ["80k"]},
)
