"""Training over a list of synapses, each with a window of taps."""
