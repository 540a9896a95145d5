"""Neurons of this package, of both frameworks, as what NIR can say of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..functional.linear_neuron import Coefficients
from ..models import LIF, SE_ADLIF
from ..models.adlif_parameters import AdLIFParameters
from ..models.model import LinearModel, NeuronModel
from ..models.parameters import NeuronParameters
from .fragment import Fragment, array, single
from .linear_neuron import LinearNeuron, leaky_integrator, nodes_of
from .needed import NIRError, nir, refuse
from .said import SaidNeuron, tag

__all__ = ["neuron_fragment"]

_WORDS = {
    "AdLIFPlus": {"A00": "alpha", "A10": "a", "A11": "beta", "r1": "b"},
    "SEAdLIF": {"A00": "alpha", "A10": "a", "A11": "beta", "r1": "b"},
    "ALIF": {"A00": "alpha", "A11": "rho", "c": "beta", "r1": "1 - rho"},
    "CubaLIF": {"A00": "beta", "A11": "alpha"},
    "HeterogeneousLIF": {"A00": "alpha"},
    "ResonateAndFire": {"A10": "omega"},
    "CSiLIF": {"A10": "omega"},
    "SiLIF": {"A10": "a", "r1": "b"},
}


def neuron_fragment(
    where: str, module: NeuronParameters, shape: tuple[int, ...], dt: float, custom: bool, potential: bool
) -> Fragment:
    """
    :param potential: its membrane potential is used in the place of its spikes.
    :param custom: what NIR cannot say becomes a node of our own.
    :raises NIRError: for what NIR cannot say.
    """
    _check_options(where, module)
    model, parameters = _equations(module)
    threshold, reset = _firing(module)
    factor = getattr(module, "graded_spikes_factor", 1.0)
    graded = array(factor.double() if isinstance(factor, Tensor) else factor, shape)
    said = SaidNeuron(
        model=model.name, shape=shape, reset=reset, threshold=threshold.detach().cpu().numpy(), graded=graded,
        parameters={name: array(value) for name, value in parameters.items()},
    )  # fmt: skip
    try:
        if not isinstance(model, LinearModel):
            refuse(where, f"{model.name} is not linear between its spikes, as NIR's neurons are; custom_nodes=True "
                          "writes a node that import_nir reads back")  # fmt: skip
        of = _linear(where, model, parameters, threshold, reset, shape)
        if potential:
            return leaky_integrator(where, of, dt)
        of.graded = graded
        fragment = nodes_of(where, of, dt)
    except NIRError:
        if not custom or potential:
            raise
        return single(where, said.node())
    for node in fragment.nodes.values():
        if isinstance(node, nir.NIRGraph):
            tag(node, said)
    return fragment


def _check_options(where: str, module: NeuronParameters) -> None:
    for option in ("inhibition", "state_quant"):
        value = getattr(module, option, False)
        if value is not False:
            refuse(where, f"{option}={value!r}: NIR has no word for it")
    if module.init_state != "zeros":
        refuse(where, f"init_state={module.init_state!r}: NIR's neurons begin at zero")


def _equations(module: NeuronParameters) -> tuple[NeuronModel, dict[str, Tensor]]:
    """The model and the values of its parameters; AdLIF+ is three models by its options."""
    parameters = {name: value.detach() for name, value in module.neuron_parameters().items() if value is not None}
    model: NeuronModel = module.model
    if getattr(module, "variant", "adlif") == "symplectic":
        model = SE_ADLIF
    elif isinstance(module, AdLIFParameters) and set(parameters) == {"alpha"}:
        model = LIF
    return model, parameters


def _firing(module: Any) -> tuple[Tensor, str]:
    """Threshold and reset in either framework's words."""
    threshold = module.threshold if hasattr(module, "threshold") else torch.tensor(float(module.v_threshold)).double()
    reset = module.reset_mechanism if hasattr(module, "threshold") else module._reset_mechanism()
    return threshold.detach(), reset


def _linear(
    where: str, model: LinearModel, parameters: dict[str, Tensor], threshold: Tensor, reset: str, shape: tuple[int, ...]
) -> LinearNeuron:  # fmt: skip
    exact = {name: value.double() for name, value in parameters.items()}
    found = model.coefficients(exact, threshold.double(), reset, False)
    return linear_neuron_of(where, found, shape, _WORDS.get(model.name, {}))


def linear_neuron_of(where: str, of: Coefficients, shape: tuple[int, ...], words: dict[str, str]) -> LinearNeuron:
    """Coefficients in numbers."""
    k = {name: array(value, shape) for name, value in of.named.items()}
    zero = np.zeros(shape)
    of_two = len(of.A) == 2
    reset_to = _reset_to(where, k, of.symplectic)
    return LinearNeuron(
        shape=shape, theta=k["theta"], A00=k.get("A00", zero), B0=k.get("B0", zero), r0=k.get("r0", zero),
        A01=-k["B0"] if of.subtracted else k.get("A01", zero), A10=k.get("A10", zero),
        A11=k.get("A11", zero) if of_two else None, B1=k.get("B1", zero), r1=k.get("r1", zero), c=k.get("c", zero),
        reset_to=reset_to, symplectic=of.symplectic, words=words,
    )  # fmt: skip


def _reset_to(where: str, k: dict[str, np.ndarray], symplectic: bool) -> float | None:
    """0 where a spike takes away all that the membrane carries on; None where it takes away nothing by a factor."""
    factors = [name for name in ("J00", "J01", "J10", "J11") if name in k]
    if not factors:
        return None
    whole = np.ones(()) if symplectic else k.get("A00", np.zeros(()))
    coupling = k.get("A10", np.zeros(()))
    from_membrane = {"J00": whole} if symplectic else {"J00": whole, "J10": coupling}
    if set(factors) <= set(from_membrane) and all(np.allclose(k[name], -from_membrane[name]) for name in factors):
        return 0.0
    own = f"the reset 'zero' of these neurons multiplies their states by a factor of its own ({', '.join(factors)})"
    refuse(where, f"{own}, which NIR's reset to a value does not: use the reset 'subtract' or custom_nodes=True")
