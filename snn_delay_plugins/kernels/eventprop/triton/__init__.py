"""Event-driven EventProp on CUDA: the algorithm of :mod:`..numba`, whose heading has its equations, in Triton.

Tensors in and out, all on one device, float64 and int64. A program of one warp owns 32 neurons of one sample and writes to
their columns alone, so that sums have one order and nothing needs atomics; of a recurrent layer a program owns a whole
sample; gradients of synapses are summed by a program per input and 32 neurons. Passes, each a kernel:

    forward     arrivals into a bucket per step (grid_kernels, exact_kernels: scatter); neurons from step to step
                (lif, li, recurrent), in the exact scheme through the arrivals of a step where they may spike (crossing)
    backward    p = dL/d(V, I) at every step (adjoint, recurrent_adjoint); its sums over the arrivals of every synapse
                and of every event (gather, gather_times)

Buckets and p are dense in time, but only for so many samples at once as fit into layer.WORKSPACE: memory does not grow with
the batch or the delays; what is kept from forward to backward are the spikes.

Tested in Triton's interpreter and compiled; see docs/benchmarks for whether it ran on a device.
"""

from .arrivals import arrivals_backward, arrivals_forward
from .layer import backward, li_forward, li_peaks, lif_forward
from .tables import Events, synapses

__all__ = [
    "Events",
    "arrivals_backward",
    "arrivals_forward",
    "backward",
    "li_forward",
    "li_peaks",
    "lif_forward",
    "synapses",
]
