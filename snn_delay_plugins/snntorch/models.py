"""The snnTorch neurons of :data:`snn_delay_plugins.models.MODELS`; AdLIF+, which has older names of its own, is beside
them."""

from __future__ import annotations

from ..models import ADLIF_PLUS, MODELS
from .model import SequenceNeuron, StepNeuron, from_model

__all__ = ["NEURONS"]


def _made() -> dict[str, type[StepNeuron] | type[SequenceNeuron]]:
    pairs = [from_model(model, module=__package__) for model in MODELS.values() if model is not ADLIF_PLUS]
    return {neuron.__name__: neuron for pair in pairs for neuron in pair}


NEURONS = _made()
"""Class by name: a step per call, ``NAME``, and a sequence per call, ``StateNAME``."""
