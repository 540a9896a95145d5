"""Layers that hold a list of synapses with whole delays."""
