"""Event-driven EventProp on the CPU: compiled loops for the LIF layer and the LI readout.

All loops work in float64 on one sample at a time and release the GIL; the callers spread samples (forward) or output
neurons (backward) over threads. A neuron's gradient row is always summed over samples in the same order, so results
do not depend on the number of threads and no [N x out x in] array exists.

Between spikes a neuron is linear. With the state x = (V, I) and

    x(t + h) = P(h) x(t),   P(h) = [[em, K], [0, es]],   em = exp(-h/tau_m),  es = exp(-h/tau_s),
    K = em expm1(h delta) / (tau_m delta),   delta = 1/tau_m - 1/tau_s   (K = em h / tau_m if delta = 0),

an arrival of weight w adds (0, w). Times split into whole steps and a fraction, t = kt dt + ft and d = kd dt + fd.
Seen from the grid point (kt + kd + 2) dt an arrival at s = t + d amounts to

    P(2 dt - ft - fd) (0, w) = P(2 dt - ft) P(-fd) (0, w),

a product of three numbers known per event and two known per synapse: three multiplications and no exponential, whatever
the delay. Whether ft + fd carries into the next step decides where it belongs: with positions held in fixed point,
k 2^33 + (f / dt) 2^32, one integer addition gives the bucket 2 (kt + kd) + carry. So bucket 2n - 1 and bucket 2n
together hold the arrivals of step n, the first as seen from grid point n + 1, the second from n + 2, and

    x(n + 1) = P(dt) x(n) + bucket[2n - 1] + P(-dt) bucket[2n]    is the exact state at every grid point.

Only in a step in which the neuron may reach its threshold, by a rigorous bound, are the arrivals of that step looked
at one by one (they are chained per bucket) and the crossing solved by Newton's method from the left, which cannot
overshoot, since V is concave while it rises through the threshold.

Backwards, p = (dL/dV, dL/dI) = (-tau_m lambda_V, -tau_s lambda_I) obeys the transposed propagator, jumps by mu_k at
the neuron's own spikes only, and is read at every arrival by the same factorisation.
"""

from .adjoint import exact_backward, feedforward_jumps, recurrent_jumps
from .fit import events_fit
from .flow import ENDLESS, LANES, TOO_MANY_SPIKES
from .grid import (
    all_float32,
    all_grid_events,
    grid_backward,
    grid_recurrent_jumps,
    grid_tables,
    li_grid_forward,
    lif_grid_forward,
    lif_grid_recurrent_forward,
)
from .lif import lif_exact_forward, lif_exact_recurrent_forward
from .readout import discounted_arrivals, discounted_arrivals_backward, li_exact_forward
from .sorting import in_order
from .tables import column_rows, event_factors, event_tables, synapse_tables
from .tau import exact_tau_gradient

__all__ = [
    "ENDLESS",
    "LANES",
    "TOO_MANY_SPIKES",
    "all_float32",
    "all_grid_events",
    "column_rows",
    "discounted_arrivals",
    "discounted_arrivals_backward",
    "event_factors",
    "event_tables",
    "events_fit",
    "exact_backward",
    "exact_tau_gradient",
    "feedforward_jumps",
    "grid_backward",
    "grid_recurrent_jumps",
    "grid_tables",
    "in_order",
    "li_exact_forward",
    "li_grid_forward",
    "lif_exact_forward",
    "lif_exact_recurrent_forward",
    "lif_grid_forward",
    "lif_grid_recurrent_forward",
    "recurrent_jumps",
    "synapse_tables",
]
