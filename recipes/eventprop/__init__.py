"""Beside the recipes of Meszaros et al.: their networks and objectives, data sets, augmentation and the cost of a step."""
