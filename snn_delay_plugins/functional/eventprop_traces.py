"""States of EventProp neurons over time, for plots.

The layer's spikes are found as :func:`~snn_delay_plugins.functional.eventprop_linear.eventprop_linear` finds them; the
states between them follow from the arrivals and the jumps, exactly, and are sampled every ``dt``. No gradient passes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..bins import steps_in
from ..checks import check_number
from ..events import SpikeEvents
from ..kernels.checks import check_room
from ..kernels.eventprop.linear.operator import eventprop_linear as operator
from .eventprop import _Checked
from .eventprop_linear import refractory_of
from .eventprop_models import ContinuousModel, system_of

__all__ = ["eventprop_traces"]

Number = Tensor | float


@torch.no_grad()
def eventprop_traces(
    events: SpikeEvents,
    weight: Tensor,
    delay: Tensor | None = None,
    *,
    model: ContinuousModel,
    constants: Mapping[str, Number] | None = None,
    threshold: Number = 1.0,
    refractory: Number = 0.0,
    dt: float = 1.0,
    recurrent_weight: Tensor | None = None,
    recurrent_delay: Tensor | None = None,
    max_spikes: int = 10_000,
) -> dict[str, Tensor]:
    """The states of a layer at the times n dt, n = 0 ... ceil(duration / dt) - 1.

    Parameters
    ----------
    As of :func:`~snn_delay_plugins.functional.eventprop_linear.eventprop_linear`; ``dt`` is the distance of the samples.

    Returns
    -------
    dict of Tensors [steps, N, out]
        By the names of ``model.states``, in the weight's dtype, on its device (computed on the CPU). A state at the time of
        a spike is that after the jump.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        as ``eventprop_linear``; ValueError for traces that do not fit into memory.

    Examples
    --------
    >>> import torch
    >>> from snn_delay_plugins.events import SpikeEvents
    >>> from snn_delay_plugins.functional.eventprop_models import ADLIF
    >>> from snn_delay_plugins.functional.eventprop_traces import eventprop_traces
    >>> inputs = SpikeEvents.from_lists([[1.0, 4.0]], [[0, 1]], num_units=2, duration=50.0)
    >>> traces = eventprop_traces(inputs, torch.full((1, 2), 8.0), model=ADLIF, constants={"a": 1.0, "b": 0.5}, dt=0.5)
    >>> list(traces), traces["V"].shape
    (['I', 'V', 'W'], torch.Size([100, 1, 1]))
    """
    from ..kernels.eventprop.linear import cpu, traces  # numba is imported when traces are first asked for
    from ..kernels.eventprop.linear.tables import Constants

    syn = _Checked(events, weight, delay, recurrent_weight, recurrent_delay, 1.0, 1.0, 1.0, dt, "exact")
    dt, (n_out, _), batch = check_number("dt", dt, above=0.0), weight.shape, events.batch_size
    samples = steps_in(events.duration, dt)
    check_room(f"states at {samples} steps of dt = {dt:g}", 24 * samples * batch * n_out)
    if not samples or not batch:
        return {name: weight.new_zeros(samples, batch, n_out) for name in model.states}
    s = system_of(model, constants or {}, threshold, n_out)
    neurons = [x.detach().cpu() for x in (s.M, s.J, s.r, s.theta, refractory_of(refractory, n_out), s.B, s.c, s.kept)]
    times, units, offsets = (x.detach().cpu() for x in (events.times, events.units, events.offsets))
    synapses = [
        None if x is None else x.detach().cpu() for x in (syn.weight, syn.delay, syn.recurrent_weight, syn.recurrent_delay)
    ]
    *_, of_units, of_offsets, exact, before, at_ready = operator(
        times, units, offsets, *synapses, *neurons, events.duration, dt, max_spikes
    )
    w, d, wr, dr = (None if x is None else x.double() for x in synapses)
    assert w is not None and d is not None
    paired = w.contiguous().numpy(), d.expand_as(w).contiguous().numpy()
    recurrent = None if wr is None or dr is None else (wr.contiguous().numpy(), dr.expand_as(wr).contiguous().numpy())
    M, J, r, theta, rest, B, c, kept = (x.contiguous().numpy() for x in neurons)
    states = traces.sampled_states(
        cpu.Events(times.double().numpy(), units.contiguous().numpy(), offsets.contiguous().numpy()), paired, recurrent,
        Constants(M, B, c, J, r, theta, rest, kept), dt, samples,
        cpu.Spikes(*(x.numpy() for x in (exact, of_units, of_offsets, before, at_ready))),
    )  # fmt: skip
    found = torch.from_numpy(states).to(weight.device, weight.dtype)
    return {name: found[..., k] for k, name in enumerate(model.states)}
