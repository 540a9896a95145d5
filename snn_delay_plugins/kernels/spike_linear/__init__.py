"""Linear layers that visit spikes alone."""
