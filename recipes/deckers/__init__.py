"""Beside the recipes of Deckers et al.: their network, and what it has learned."""
