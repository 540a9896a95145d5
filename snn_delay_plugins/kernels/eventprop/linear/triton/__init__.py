"""EventProp of linear neurons on CUDA: the algorithm of :mod:`..linear`, whose heading has its equations, in Triton.

Laid out as :mod:`...triton`, whose tables it uses: a program of one warp owns 32 neurons of one sample, of a recurrent
layer one program a whole sample; gradients of synapses are summed by a program per input and 32 neurons. No atomics, so
that every sum has one order. Passes, each a kernel:

    forward     arrivals into moments per step (scatter); neurons from step to step, through the arrivals of a step
                where they may spike (spikes, recurrent), or through steps alone (readout)
    backward    p = dL/dx at every step, and where it jumps (adjoint, recurrent_adjoint); its sums over the arrivals of
                every synapse and event (gather, gather_times); for the constants the states again (replay), products of
                p with states and moments over whole steps, and integrals over the parts of steps that have spikes (pieces)

Moments and p are dense in time, but only for so many samples at once as fit into layer.WORKSPACE; what is kept from
forward to backward are the spikes.

Tested in Triton's interpreter and compiled; never run on a device yet.
"""

from ...triton.tables import Events, synapses
from .layer import Readout, Spikes, backward_pass, forward_pass, readout, readout_backward

__all__ = ["Events", "Readout", "Spikes", "backward_pass", "forward_pass", "readout", "readout_backward", "synapses"]
