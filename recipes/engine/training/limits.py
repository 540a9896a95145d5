"""Between which bounds the numbers of networks and trainings make sense, by their names: what ``--set`` asks for is held
against them before any data are read. Words are for those that take them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

_LARGEST = 3.4e38  # that 32 bits hold
_LONGEST = 100  # entries of a list


@dataclasses.dataclass(frozen=True)
class Limit:
    """From ``least`` to ``most``, without the bounds themselves where they are ``open``. ``called``: instead of the name,
    in messages."""

    least: float = -_LARGEST
    most: float = _LARGEST
    open: bool = False
    called: str | None = None
    empty: bool = True
    """Whether a list may be empty."""

    def check(self, name: str, value: float) -> None:
        name = self.called or name
        if not -_LARGEST <= value <= _LARGEST:  # a whole number may be too long to be written out
            raise ValueError(f"{name} must be a finite number that fits into 32 bits")
        if value < self.least == 0 and not self.open:
            raise ValueError(f"{name} must not be negative, got {value:g}")
        inside = self.least < value < self.most if self.open else self.least <= value <= self.most
        if not inside:
            bounds = [
                f"{word} {bound:g}"
                for word, bound in (
                    ("above" if self.open else "at least", self.least),
                    ("below" if self.open else "at most", self.most),
                )
                if abs(bound) < _LARGEST
            ]
            raise ValueError(f"{name} must be {' and '.join(bounds)}, got {value:g}")


_NOT_NEGATIVE = Limit(0)
_COUNT = Limit(1, 1e6)
_SIZE = Limit(1, 1e5, empty=False)
_DELAY = Limit(0, 1e5)
_TIME = Limit(1e-3, 1e6)
_NORMAL = (Limit(), _NOT_NEGATIVE)  # mean and standard deviation

LIMITS: dict[str, Limit | tuple[Limit, ...]] = {
    # of trainings
    "epochs": _COUNT,
    "batch_size": _COUNT,
    "patience": Limit(0, 1e6),
    "plateau_patience": Limit(0, 1e6),
    "plateau_factor": Limit(0, 1),
    "decay": Limit(0, 1),
    "learning_rate": _NOT_NEGATIVE,
    "min_learning_rate": _NOT_NEGATIVE,
    "delay_learning_rate": _NOT_NEGATIVE,
    "constant_learning_rate": _NOT_NEGATIVE,
    "input_rate_factor": _NOT_NEGATIVE,
    "delay_rate_factor": _NOT_NEGATIVE,
    "weight_rate": _NOT_NEGATIVE,
    "delay_rate": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "average": Limit(0, math.nextafter(1, 0)),
    "label_smoothing": Limit(0, 1),
    "spike_cost": _NOT_NEGATIVE,
    "most_spikes": _NOT_NEGATIVE,
    "regularisation": _NOT_NEGATIVE,
    "target_spikes": _NOT_NEGATIVE,
    "bump": _NOT_NEGATIVE,
    "delta_t": _NOT_NEGATIVE,
    # of networks
    "hidden": _SIZE,
    "synapses": _SIZE,
    "layers": Limit(1, _LONGEST),
    "weight_fan_in": Limit(1, 1e9),
    "max_delay": _DELAY,
    "initial_delay": _DELAY,
    "right_padding": _DELAY,
    "channel_shift": Limit(0, 1e4),
    "dropout": Limit(0, math.nextafter(1, 0), called="dropout probability"),
    "norm_momentum": Limit(0, 1),
    "surrogate_width": Limit(0, open=True),
    "surrogate_height": Limit(0, open=True),
    "time_constant": Limit(1, 1e6, open=True),
    "tau_mem": _TIME,
    "tau_syn": _TIME,
    "tau_adapt": _TIME,
    "readout_time": _TIME,
    "dt": Limit(1e-3, 1e3),
    "input_weight": _NORMAL,
    "hidden_weight": _NORMAL,
    "recurrent_weight": _NORMAL,
    "output_weight": _NORMAL,
}


def check(settings: Mapping[str, object]) -> None:
    """Raises ValueError for the first number that makes no sense, or is no number; what has no limit must be finite."""
    for name, value in settings.items():
        limit = LIMITS.get(name, Limit())
        if _is_number(value):
            if isinstance(limit, Limit):
                limit.check(name, value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            _check_all(name, value, limit)


def _check_all(name: str, values: Sequence[object], limit: Limit | tuple[Limit, ...]) -> None:
    if len(values) > _LONGEST:
        raise ValueError(f"{name} has {len(values)} entries; at most {_LONGEST} make sense")
    if isinstance(limit, Limit) and not values and not limit.empty:
        raise ValueError(f"{name} must not be empty")
    limits = [limit] * len(values) if isinstance(limit, Limit) else limit
    for number, (each, value) in enumerate(zip(limits, values, strict=False)):
        if _is_number(value):
            each.check(f"{name}[{number}]", value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
