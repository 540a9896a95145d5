"""snnTorch as the conformance kit sees it: how its modules are recognised, run, reset and detached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import snntorch as snn
import torch
from snntorch import utils
from torch import Tensor, nn

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


def _smooth(x: Tensor) -> Tensor:
    return torch.sigmoid(3.0 * x)
