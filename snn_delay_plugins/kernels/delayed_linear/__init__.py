"""Linear layers with a delay per synapse, over sequences."""
