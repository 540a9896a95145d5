"""Sizes that tables and loops share."""

STATES = 3  # of a neuron; models of fewer are padded
MOMENTS = 8  # of the arrivals of a step
TERMS = 12  # of the Taylor series of exp(M u) within a step
LANES = 8  # neurons that share one pass over the events
