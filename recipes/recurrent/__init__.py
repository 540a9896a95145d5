"""Recurrent delays beside feed-forward ones."""
