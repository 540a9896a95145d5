"""The parameters of AdLIF neurons under the names that they have had before there were models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..bounds import BoundMode
from ..functional.adlif import AdLIFState, Variant, adlif, adlif_step, spikes_of
from ..functional.recurrent import Recurrence
from .adlif import ADLIF_PLUS
from .model import Parameter
from .parameters import InitialState, NeuronParameters, preset_parameters
from .run import Run, Sequence, States

__all__ = ["ADLIF_PRESETS", "AdLIFParameters", "AdLIFPreset", "preset_bounds"]


@dataclass(frozen=True)
class AdLIFPreset:
    """Intervals of the four trainable parameters of an adaptive LIF neuron (``None``: no adaptation current).

    Initial values are drawn uniformly from the same intervals (Deckers et al., section 4.2).
    """

    alpha: tuple[float, float]
    beta: tuple[float, float] | None = None
    a: tuple[float, float] | None = None
    b: tuple[float, float] | None = None

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """The intervals of the parameters that this neuron has."""
        named = {"alpha": self.alpha, "beta": self.beta, "a": self.a, "b": self.b}
        return {name: interval for name, interval in named.items() if interval is not None}


_ALL = ADLIF_PLUS.all_presets
_PRESETS = {
    # A LIF neuron with trainable leak, over AdLIF+'s range so that adaptation is the only difference.
    "lif": {"alpha": ADLIF_PLUS.parameters["alpha"]},
    "adlif": _ALL["adlif"],
    "adlif+": _ALL["default"],
}
ADLIF_PRESETS: dict[str, AdLIFPreset] = {
    preset: AdLIFPreset(**{name: (parameter.low, parameter.high) for name, parameter in parameters.items()})
    for preset, parameters in _PRESETS.items()
}


def preset_bounds(preset: str, overrides: Mapping[str, Iterable[float]] | None = None) -> dict[str, tuple[float, float]]:
    """Intervals of a preset of AdLIF neurons, some of them replaced.

    :raises ValueError: for an unknown preset, or an override for a parameter that the preset does not have.
    """
    chosen = preset_parameters(_PRESETS, preset, overrides)
    return {name: (parameter.low, parameter.high) for name, parameter in chosen.items()}


class AdLIFParameters(NeuronParameters):
    """Trainable parameters and initial state of adaptive LIF neurons: AdLIF+, AdLIF and LIF by their preset, and both
    variants of :func:`~snn_delay_plugins.functional.adlif.adlif`."""

    model = ADLIF_PLUS
    variant: Variant
    alpha: Tensor
    beta: Tensor | None
    a: Tensor | None
    b: Tensor | None

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Parameter]]:
        return _PRESETS

    def create_adlif_parameters(
        self,
        features: int | Iterable[int] | None,
        preset: str,
        initial: dict[str, float | Tensor | None],
        learn: dict[str, bool],
        bounds: dict[str, Iterable[float]] | None,
        bound_mode: BoundMode,
        init_state: InitialState,
    ) -> None:
        """:meth:`~NeuronParameters.create_neuron_parameters` with its arguments in their order."""
        self.create_neuron_parameters(
            features=features, preset=preset, initial=initial, learn=learn, bounds=bounds, bound_mode=bound_mode,
            init_state=init_state,
        )  # fmt: skip

    def initial_state(self, current: Tensor) -> tuple[Tensor, ...]:
        u, w = super().initial_state(current)
        return u, w if self.beta is not None or self.init_state == "zeros" else current.new_zeros(w.shape, dtype=w.dtype)

    def prepared(self, threshold, surrogate, reset, detach_reset=False) -> Run:
        options = {"threshold": threshold, "surrogate": surrogate, "reset": reset, "detach_reset": detach_reset}
        return _AdLIFRun({**self.neuron_parameters(), **options, "variant": self.variant})


class _AdLIFRun:
    """:func:`~snn_delay_plugins.functional.adlif.adlif` with its options.

    Symplectic neurons show their membrane potential after the reset of its own spike, which it tells nothing of any more:
    a step does not ask for the spike of the step before.
    """

    def __init__(self, options: dict) -> None:
        self._options = options
        self.shows_spikes = options["variant"] == "adlif"

    def spikes(self, states: States) -> Tensor:
        return spikes_of(states[0], self._options["threshold"], self._options["surrogate"])

    def threshold_at(self, states: States) -> Tensor | float:
        return self._options["threshold"]

    def _state(self, states: States) -> AdLIFState:
        u, w = states
        return AdLIFState(u, w, self.spikes(states))

    def step(self, current: Tensor, states: States) -> tuple[States, Tensor]:
        u, w, s = adlif_step(current, self._state(states), **self._options)
        return (u, w), s

    def sequence(
        self, current: Tensor, states: States, traces: bool = False, support: bool = False,
        recurrence: Recurrence | None = None,
    ) -> Sequence:  # fmt: skip
        wanted = {"traces": traces, "support": support, "recurrence": recurrence}
        spikes, (u, w, _), *more = adlif(current, self._state(states), **wanted, **self._options)
        return Sequence(spikes, (u, w), more[0] if traces else None, more[-1] if support else None)
