"""snnTorch as the conformance kit sees it: how its modules are recognised, run, reset and detached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import snntorch as snn
import torch
from snntorch import utils
from torch import Tensor, nn

from .helpers import goes_by_a_list, reaches_ours
from .reset import reset_ours
from .state import CarriedStates

__all__ = ["Conformance"]

Form = Literal["step", "sequence"]


class Conformance:
    """What :class:`snn_delay_plugins.testing.frameworks.Framework` asks for."""

    name = "snnTorch"
    package = "snntorch"
    declares_states = False

    def owns(self, module: nn.Module) -> bool:
        return isinstance(module, snn.SpikingNeuron)

    def forms(self, module: nn.Module) -> tuple[Form, ...] | None:
        return None

    def set_form(self, net: nn.Module, form: Form) -> None:
        """A module of snnTorch has one form."""

    def reset(self, net: nn.Module) -> None:
        utils.reset(net)
        if not reaches_ours(utils):  # without register() users of our neurons call ours
            reset_ours(net)

    def reset_hint(self, module: nn.Module) -> str:
        if isinstance(module, CarriedStates) or not goes_by_a_list(utils) or any(map(_is_listed, type(module).__mro__)):
            return ""
        return (
            f"snnTorch 1.0's utils.reset goes by a list of its own classes, of which {type(module).__name__} is none; say "
            "what your users call in its place: Plugin(..., reset=my_plugin.reset)"
        )

    def reset_one(self, module: Any) -> None:
        if not hasattr(module, "reset_mem"):
            raise AttributeError(f"{type(module).__name__} has no reset_mem(), which snnTorch's utils.reset calls")
        module.reset_mem()

    def detach(self, net: nn.Module) -> None:
        classes: set[Any] = {type(module) for module in net.modules() if hasattr(type(module), "detach_hidden")}
        if not classes:
            raise NotImplementedError("no class has snnTorch's detach_hidden(); pass detach=lambda net: ...")
        for each in classes:
            each.detach_hidden()

    def states(self, module: nn.Module) -> dict[str, Tensor]:
        # snnTorch keeps them in buffers that are not persistent; `reset` is the last reset signal
        own = {name: value for name, value in module._buffers.items() if name in module._non_persistent_buffers_set}
        own |= {name: value for name, value in vars(module).items() if name != "reset"}
        return {name: value for name, value in own.items() if isinstance(value, Tensor) and value.numel()}

    def spikes(self) -> tuple[str, ...]:
        return ("spike_grad",)

    def smooth(self):
        return _smooth

    @contextmanager
    def alone(self) -> Iterator[None]:
        before = list(snn.SpikingNeuron.instances)  # keeps every neuron alive, and detach_hidden walks over all of them
        try:
            yield
        finally:
            snn.SpikingNeuron.instances[:] = before


def _is_listed(cls: type) -> bool:
    return cls.__module__.startswith("snntorch.") and "reset_hidden" in vars(cls)


def _smooth(x: Tensor) -> Tensor:
    return torch.sigmoid(3.0 * x)
