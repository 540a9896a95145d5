"""The SpikingJelly neurons of :data:`snn_delay_plugins.models.MODELS`; AdLIF+, which has older names of its own, is beside
them."""

from __future__ import annotations

from ..models import ADLIF_PLUS, MODELS
from .model import Node, from_model

__all__ = ["NEURONS"]


def _made() -> dict[str, type[Node]]:
    nodes = [from_model(model, module=__package__) for model in MODELS.values() if model is not ADLIF_PLUS]
    return {node.__name__: node for node in nodes}


NEURONS = _made()
"""Class by name, ``NAMENode``."""
