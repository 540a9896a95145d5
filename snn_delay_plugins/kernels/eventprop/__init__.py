"""EventProp: exact event-driven forward passes and their adjoints."""
