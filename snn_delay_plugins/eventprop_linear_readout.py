"""Readouts of EventProp networks by leaky integrators of any linear model, with a constant for the layer or one per neuron.

The equations are in :mod:`snn_delay_plugins.functional.eventprop_linear_readout`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from torch import Tensor

from .checks import check_choice, shape_alone
from .eventprop_linear import ModelConstants, Value
from .events import SpikeEvents
from .functional.eventprop_linear_readout import LINEAR_READOUTS, LinearReadout, eventprop_linear_li
from .functional.eventprop_models import ADAPTIVE_LI, ContinuousModel
from .kernels.dispatch import tell_counters
from .parameters import DelayType

__all__ = ["EventPropAdaptiveLI", "EventPropLinearLI"]


class EventPropLinearLI(ModelConstants):
    r"""Neurons of a linear model without a threshold, the readout of an EventProp network.

    .. math:: \dot x = M x, \quad x \leftarrow x + w B \text{ at } t_i + d, \quad V = c \cdot x

    Input, delays and weights: as :class:`~snn_delay_plugins.eventprop.EventPropLI`, whose neurons share their constants.

    Parameters
    ----------
    in_features, out_features : int
    model : ContinuousModel
        :data:`~snn_delay_plugins.functional.eventprop_models.LI`, ``ADAPTIVE_LI`` or any other; its jumps are not read.
    constants : mapping
        Of the model's constants by name: a number, a Tensor [out], or (low, high): drawn from U(low, high) for each.
    learn : collection of names, or "all"
        Constants to be trained; positive ones stay above a twentieth of their initial value.
    delay, max_delay, delay_type, learn_delay, weight_init, dt
        As in :class:`~snn_delay_plugins.eventprop.EventPropLI`.
    readout : str
        ``"voltage"`` [T, N, out]; ``"integral"``, ``"weighted_integral"`` or ``"maximum"`` [N, out]: see
        :func:`snn_delay_plugins.functional.eventprop_linear_readout.eventprop_linear_li`.

    Raises
    ------
    TypeError, ValueError
        as :func:`snn_delay_plugins.functional.eventprop_linear_readout.eventprop_linear_li`.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.eventprop_linear_readout import EventPropLinearLI
    >>> from snn_delay_plugins.functional.eventprop_models import LI
    >>> layer = EventPropLinearLI(64, 20, LI, constants={"tau_mem": (10.0, 40.0)}, learn=["tau_mem"])
    >>> layer((torch.rand(100, 2, 64) < 0.1).float()).sum().backward()
    >>> layer.tau_mem.grad.shape
    torch.Size([20])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        model: ContinuousModel,
        *,
        constants: Mapping[str, Value] | None = None,
        learn: Collection[str] | str = (),
        delay: float | str | Tensor | None = None,
        max_delay: float = math.inf,
        delay_type: DelayType = "synaptic",
        learn_delay: bool = True,
        weight_init: tuple[float, float] = (0.02, 0.03),
        dt: float = 1.0,
        readout: LinearReadout = "voltage",
    ) -> None:
        super().__init__()
        self._create_scheme(dt, "exact")
        self.readout: LinearReadout = check_choice("readout", readout, LINEAR_READOUTS)
        self._create_synapses(in_features, out_features, delay, max_delay, delay_type, learn_delay, weight_init)
        self._create_neurons(model, constants or {}, learn, self.out_features)

    def forward(self, input: SpikeEvents | Tensor) -> Tensor:
        tell_counters("eventprop_linear_li")
        self._check_dense(input)
        if isinstance(input, Tensor) and shape_alone(input):
            voltage = self._shape(input)
            return voltage if self.readout == "voltage" else voltage.sum(0)
        constants = {name: self._value(name) for name in self.model.constants}
        return eventprop_linear_li(
            self._events(input), self.weight, self._delay("delay"), model=self.model, constants=constants, dt=self.dt,
            readout=self.readout,
        ).to(self.weight.dtype)  # fmt: skip

    def extra_repr(self) -> str:
        delays = "no delays" if self.delay is None else f"max_delay={self.max_delay:g}, delay_type={self.delay_type!r}"
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, model={self.model.name}, {delays}, "
            f"dt={self.dt:g}, learn={self._learnt()}, readout={self.readout!r}"
        )


class EventPropAdaptiveLI(EventPropLinearLI):
    r"""Leaky integrators with adaptation, which take a slow part of their own past off: AdLIF+ without spikes.

    .. math:: \tau_m \dot V = -V + I - W, \quad \tau_w \dot W = -W + a V, \quad \tau_s \dot I = -I

    Parameters
    ----------
    tau_mem, tau_syn, tau_adapt, a
        A number, a Tensor [out], or (low, high): drawn from U(low, high) for every neuron.
    others
        As in :class:`EventPropLinearLI`.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.eventprop_linear_readout import EventPropAdaptiveLI
    >>> EventPropAdaptiveLI(64, 20, a=2.0, readout="integral")((torch.rand(100, 2, 64) < 0.1).float()).shape
    torch.Size([2, 20])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        tau_mem: Value = 20.0,
        tau_syn: Value = 5.0,
        tau_adapt: Value = 100.0,
        a: Value = 0.5,
        learn: Collection[str] | str = (),
        delay: float | str | Tensor | None = None,
        max_delay: float = math.inf,
        delay_type: DelayType = "synaptic",
        learn_delay: bool = True,
        weight_init: tuple[float, float] = (0.02, 0.03),
        dt: float = 1.0,
        readout: LinearReadout = "voltage",
    ) -> None:
        super().__init__(
            in_features, out_features, ADAPTIVE_LI,
            constants={"tau_mem": tau_mem, "tau_syn": tau_syn, "tau_adapt": tau_adapt, "a": a}, learn=learn, delay=delay,
            max_delay=max_delay, delay_type=delay_type, learn_delay=learn_delay, weight_init=weight_init, dt=dt,
            readout=readout,
        )  # fmt: skip
