"""Neuron models as data: one file a family, each with its equation, its source, its parameters and their coefficients."""

from __future__ import annotations

from ..functional.linear_neuron import Coefficients
from .adlif import ADLIF_PLUS, SE_ADLIF
from .alif import ALIF
from .lif import CUBA_LIF, LIF
from .model import LinearModel, NeuronModel, Parameter, StepModel, membrane_reset
from .resonate import BALANCED_RESONATE_AND_FIRE, RESONATE_AND_FIRE
from .silif import C_SILIF, SILIF

__all__ = [
    "ADLIF_PLUS", "ALIF", "BALANCED_RESONATE_AND_FIRE", "CUBA_LIF", "C_SILIF", "LIF", "MODELS", "RESONATE_AND_FIRE",
    "SE_ADLIF", "SILIF", "Coefficients", "LinearModel", "NeuronModel", "Parameter", "StepModel", "membrane_reset",
]  # fmt: skip

MODELS: dict[str, NeuronModel] = {
    model.name: model
    for model in (LIF, CUBA_LIF, ADLIF_PLUS, SE_ADLIF, ALIF, RESONATE_AND_FIRE, BALANCED_RESONATE_AND_FIRE, SILIF, C_SILIF)
}
"""Every model of this package by name; each has its neurons in every framework's folder."""
