"""Events sorted by the patch of a convolution that sees them.

A unit has a channel and a site, ``unit = channel * sites + site``; a site has a list of pairs (patch, tap): the
positions of the output that see it, and the place that it has in their kernels. Every event becomes one event for each of
its pairs, in the row ``patch * N + sample`` with the unit ``channel * num_taps + tap`` of a layer with
``channels * num_taps`` inputs: a convolution is that layer over the rows, all with the same weights and delays.
Nothing is kept of weights that are zero, and the work grows with the events times the taps that see them.
"""
