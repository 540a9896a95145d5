"""Linear neurons with delayed recurrent synapses over sequences."""
