"""What each part of the recommended network gives: rows that take one part away, or put one in."""

import dataclasses

from . import flagship_shd
from .engine.command.recipe import Row
from .engine.data.augmentation import AUGMENTATIONS

_WITH = flagship_shd.RECIPE


def _network(key: str, name: str, **settings) -> Row:
    return Row(key, name, settings, {})


def _training(key: str, name: str, **changes) -> Row:
    return Row(key, name, {}, {}, training=changes)


def _without(key: str, name: str, *augmentations: str) -> Row:
    return Row(key, name, {}, {}, data={"augmentation": dict.fromkeys(augmentations, 0.0)})


def _with(key: str, name: str, **strengths: float) -> Row:
    return Row(key, name, {}, {}, data={"augmentation": strengths})


def _binned(key: str, name: str, **binning: int) -> Row:
    return Row(key, name, {}, {}, data={"binning": binning})


ROWS = (
    _network("reference", "as recommended"),
    _network("memoryless-readout", "readout without memory", readout="memoryless"),
    _network("silif", "SiLIF neurons", neuron="SiLIF"),
    _network("adlif-plus", "AdLIF+ neurons", neuron="AdLIF+"),
    _network("lif", "LIF neurons", neuron="LIF"),
    _without("no-augmentation", "no augmentation", *AUGMENTATIONS),
    _without("channels-stay", "channels not moved", "channel_shift", "channel_stretch", "channel_warp"),
    _without("times-stay", "times not moved", "time_shift", "time_stretch"),
    _with("channels-far", "channels moved further", channel_shift=70.0, channel_stretch=0.08, channel_warp=10.0),
    _with("events-lost", "events lost", equalizer=0.3, event_drop=0.2),
    _training("constant-rate", "constant learning rate", schedule="constant"),
    _training("no-average", "no average of weights", average=0.0),
    _training("no-weight-decay", "no weight decay", weight_decay=0.0),
    _network("no-dropout", "no dropout", dropout=0.0),
    _training("batch-128", "batches of 128", batch_size=128),
    _binned("steps-of-20-ms", "steps of 20 ms", steps=50),
    _binned("steps-of-5-ms", "steps of 5 ms", steps=200),
    _binned("channels-of-10", "70 channels of ten units", group=10),
    _with("blends", "half of the clips blends of two", blend=0.5),
    _with("masks", "stretches of time and channels masked", time_mask=150.0, channel_mask=100.0),
    _training("label-smoothing", "labels smoothed by 0.1", label_smoothing=0.1),
    _network("axonal-delays", "learned axonal delays of up to 300 ms", delays="axonal"),
)

RECIPE = dataclasses.replace(
    _WITH,
    name="flagship_ablation",
    title="The recommended network with one part taken away or put in",
    rows=ROWS,
    network_settings={"hidden": [128, 128], "dropout": 0.2},
    training=dataclasses.replace(_WITH.training, epochs=20),
    seeds=3,
    smoke=_WITH.smoke | {"training": {"epochs": 2, "batch_size": 48}, "rows": ["reference", "steps-of-20-ms"]},
)
