"""Augmentations of spike recordings, as small objects that are put one after the other.

Each object draws what it does to every sample of a batch and writes it into a :class:`Plan`; nothing is moved until
:func:`recipes.engine.data.rendering.render` goes over the events once, by the whole plan. Times are in ms, units are the
recording's own channels.

:data:`AUGMENTATIONS` has them by name; each has one number, its strength, at 0 nothing happens. Those that move events
(shifts, stretches) do so affinely, in the order in which they are given, a :class:`Blend` before all of them.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..errors import OptionError
from .events import EventRecordings


@dataclasses.dataclass
class Plan:
    """What becomes of the samples of a batch: arrays of one entry per sample.

    An event at time t on unit u goes to ``time_scale t + time_offset`` and ``unit_scale u + unit_offset``, is moved by the
    waves ``time_wave`` and ``unit_wave`` at t and u and by normal numbers with the deviations ``time_jitter`` and
    ``unit_jitter``, and lost with probability ``lost`` or, of what is left, (1 + ``unit_loss`` at u) / 2. A wave is
    ``[amplitude, cycles, phase]``: amplitude sin(2 pi cycles x + phase), x from 0 to 1 over the recording or its units;
    of the loss the amplitude is a share and multiplies the 1 too. What then
    lies in ``[time_from, time_to)`` or ``[unit_from, unit_to)`` is lost too, and ``added`` events at random places are
    there besides. Where ``partner`` is not -1, half of the events of each of the two samples make one, their centres of
    mass moved halfway towards each other before all else.
    """

    which: np.ndarray
    labels: np.ndarray
    partner: np.ndarray
    time_scale: np.ndarray
    time_offset: np.ndarray
    unit_scale: np.ndarray
    unit_offset: np.ndarray
    time_wave: np.ndarray
    unit_wave: np.ndarray
    unit_loss: np.ndarray
    time_jitter: np.ndarray
    unit_jitter: np.ndarray
    lost: np.ndarray
    added: np.ndarray
    time_from: np.ndarray
    time_to: np.ndarray
    unit_from: np.ndarray
    unit_to: np.ndarray

    @classmethod
    def unchanged(cls, of: EventRecordings, which: np.ndarray) -> "Plan":
        """Every sample as it is."""
        fields = {field.name: np.zeros(len(which)) for field in dataclasses.fields(cls)}
        fields |= {name: np.zeros((len(which), 3)) for name in ("time_wave", "unit_wave", "unit_loss")}
        fields |= {name: np.ones(len(which)) for name in ("time_scale", "unit_scale")}
        which = np.asarray(which, np.int64)
        return cls(**fields | {"which": which, "labels": of.labels[which], "partner": np.full(len(which), -1)})

    def __len__(self) -> int:
        return len(self.which)

    def move_times(self, scale: np.ndarray | float, offset: np.ndarray | float) -> None:
        """``scale t + offset`` after what has been planned."""
        self.time_scale, self.time_offset = self.time_scale * scale, self.time_offset * scale + offset

    def move_units(self, scale: np.ndarray | float, offset: np.ndarray | float) -> None:
        """``scale u + offset`` after what has been planned."""
        self.unit_scale, self.unit_offset = self.unit_scale * scale, self.unit_offset * scale + offset


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """``most``: the strength. Raises :class:`OptionError` for one that makes no sense."""

    most: float

    limit = float("inf")

    def __post_init__(self):
        if not 0 <= self.most <= self.limit or not np.isfinite(self.most):
            bounds = "not negative" if np.isinf(self.limit) else f"between 0 and {self.limit:g}"
            raise OptionError(f"augmentation {name_of(type(self))}={self.most:g}: the number must be finite and {bounds}")

    def __call__(self, plan: Plan, of: EventRecordings, rng: np.random.Generator) -> None:
        """Draw for every sample of the plan and write it there."""
        raise NotImplementedError


class ChannelShift(Augmentation):
    """All events of a sample by one real number of units from -most ... most, as another voice would."""

    def __call__(self, plan, of, rng):
        plan.move_units(1.0, rng.uniform(-self.most, self.most, len(plan)))


class ChannelStretch(Augmentation):
    """All units of a sample by one factor exp(-most ... most), about the middle unit."""

    def __call__(self, plan, of, rng):
        factor = np.exp(rng.uniform(-self.most, self.most, len(plan)))
        plan.move_units(factor, (1 - factor) * of.num_units / 2)

    limit = 2.0


class TimeShift(Augmentation):
    """All events of a sample by one number of ms from -most ... most."""

    def __call__(self, plan, of, rng):
        plan.move_times(1.0, rng.uniform(-self.most, self.most, len(plan)))


class TimeStretch(Augmentation):
    """All times of a sample by one factor exp(-most ... most), about the middle of the recording."""

    def __call__(self, plan, of, rng):
        factor = np.exp(rng.uniform(-self.most, self.most, len(plan)))
        plan.move_times(factor, (1 - factor) * of.duration / 2)

    limit = 2.0


class TimeWarp(Augmentation):
    """Times of a sample by a slow wave over the recording, 0.5 to 2 cycles of an amplitude of 0 ... most ms: some parts are
    faster, others slower."""

    def __call__(self, plan, of, rng):
        plan.time_wave = _wave(self.most, 0.5, 2, len(plan), rng)


class ChannelWarp(Augmentation):
    """Units of a sample by a slow wave over the units, 0.5 to 2 cycles of an amplitude of 0 ... most units."""

    def __call__(self, plan, of, rng):
        plan.unit_wave = _wave(self.most, 0.5, 2, len(plan), rng)


class Equalizer(Augmentation):
    """Events lost with a probability that goes up and down over the units, 0.5 to 3 cycles between 0 and a depth that is
    drawn for the sample, 0 ... most: as by another microphone, or another distance to it."""

    def __call__(self, plan, of, rng):
        plan.unit_loss = _wave(self.most, 0.5, 3, len(plan), rng)

    limit = 1.0


class ChannelJitter(Augmentation):
    """Every event by a normal number of units with the standard deviation ``most``."""

    def __call__(self, plan, of, rng):
        plan.unit_jitter = np.hypot(plan.unit_jitter, self.most)


class TimeJitter(Augmentation):
    """Every event by a normal number of ms with the standard deviation ``most``."""

    def __call__(self, plan, of, rng):
        plan.time_jitter = np.hypot(plan.time_jitter, self.most)


class EventDrop(Augmentation):
    """Every event lost with a probability that is drawn for the sample, 0 ... most."""

    def __call__(self, plan, of, rng):
        plan.lost = 1 - (1 - plan.lost) * (1 - rng.uniform(0, self.most, len(plan)))

    limit = 1.0


class EventAdd(Augmentation):
    """Up to ``most`` times as many events as the sample has, drawn for the sample, at random times and units besides."""

    def __call__(self, plan, of, rng):
        events = of.offsets[plan.which + 1] - of.offsets[plan.which]
        plan.added = plan.added + np.floor(rng.uniform(0, self.most, len(plan)) * events)

    limit = 10.0


class TimeMask(Augmentation):
    """All events lost in a stretch of time of 0 ... most ms, drawn for the sample."""

    def __call__(self, plan, of, rng):
        plan.time_from, plan.time_to = _stretch(self.most, of.duration, len(plan), rng)


class ChannelMask(Augmentation):
    """All events lost on 0 ... most neighbouring units, drawn for the sample."""

    def __call__(self, plan, of, rng):
        plan.unit_from, plan.unit_to = _stretch(self.most, of.num_units, len(plan), rng)


class Blend(Augmentation):
    """With probability ``most`` a sample is blended with a random one of its class, itself included: the two are moved
    halfway towards each other, so that their centres of mass in time and units meet, and every event of both is kept
    with probability 1/2 (Nowotny, Turner, Knight 2025)."""

    def __call__(self, plan, of, rng):
        blended = rng.random(len(plan)) < self.most
        drawn = rng.random(len(plan))
        for i in np.flatnonzero(blended):
            of_class = np.flatnonzero(of.labels == plan.labels[i])
            plan.partner[i] = of_class[int(drawn[i] * len(of_class))]

    limit = 1.0


def _wave(most: float, fewest: float, cycles: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Amplitudes, cycles and phases of so many waves."""
    return np.stack(
        [rng.uniform(0, most, samples), rng.uniform(fewest, cycles, samples), rng.uniform(0, 2 * np.pi, samples)], axis=1
    )


def _stretch(most: float, whole: float, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end of a stretch of 0 ... most somewhere in 0 ... whole."""
    length = rng.uniform(0, min(most, whole), samples)
    begin = rng.uniform(0, 1, samples) * (whole - length)
    return begin, begin + length


IN_UNITS = ("channel_shift", "channel_warp", "channel_jitter", "channel_mask")
"""Those whose strength is a number of units."""
AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "blend": Blend,
    "time_stretch": TimeStretch,
    "time_shift": TimeShift,
    "channel_stretch": ChannelStretch,
    "channel_shift": ChannelShift,
    "time_warp": TimeWarp,
    "channel_warp": ChannelWarp,
    "equalizer": Equalizer,
    "time_jitter": TimeJitter,
    "channel_jitter": ChannelJitter,
    "event_drop": EventDrop,
    "event_add": EventAdd,
    "time_mask": TimeMask,
    "channel_mask": ChannelMask,
}


def name_of(kind: type[Augmentation]) -> str:
    return next((name for name, known in AUGMENTATIONS.items() if known is kind), kind.__name__)


def augmentations(strengths: Mapping[str, float]) -> tuple[Augmentation, ...]:
    """Those of these names and strengths, in the order of :data:`AUGMENTATIONS`. Raises :class:`OptionError`."""
    for name in strengths:
        if name not in AUGMENTATIONS:
            raise OptionError(f"augmentation {name!r}: there are {', '.join(AUGMENTATIONS)}")
    return tuple(kind(float(strengths[name])) for name, kind in AUGMENTATIONS.items() if strengths.get(name))
