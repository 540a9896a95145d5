"""Beside the recipes of Hammouamri et al.: their networks, and how they are trained."""
