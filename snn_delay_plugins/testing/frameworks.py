"""What the kit has to know of a framework: how to recognise its modules, run them, and make them forget.

A third framework is a third object in :data:`FRAMEWORKS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from .registry import NotApplicable

__all__ = ["FRAMEWORKS", "Form", "Framework", "SnnTorch", "SpikingJelly", "framework_of"]

Form = Literal["step", "sequence"]


class Framework(Protocol):
    name: str
    package: str

    def owns(self, module: nn.Module) -> bool:
        """Whether the module says, by its class, that it is of this framework."""
        ...

    def forms(self, module: nn.Module) -> tuple[Form, ...] | None:
        """The forms that one module has; None: they show only when it runs."""
        ...

    def set_form(self, net: nn.Module, form: Form) -> None: ...

    def reset(self, net: nn.Module) -> None:
        """The framework's own function."""
        ...

    def reset_one(self, module: nn.Module) -> None:
        """What the framework expects a module to have itself."""
        ...

    def detach(self, net: nn.Module) -> None: ...

    def states(self, module: nn.Module) -> dict[str, Tensor]:
        """The tensors that a module carries to its next call, by name."""
        ...

    def spikes(self) -> tuple[str, ...]:
        """Names under which modules keep their spike function."""
        ...

    def smooth(self):
        """A spike function that is smooth in the forward pass, so that its gradient is exact."""
        ...

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What happens inside leaves nothing in the framework's globals."""
        yield


class SnnTorch:
    name = "snnTorch"
    package = "snntorch"

    def owns(self, module: nn.Module) -> bool:
        return _installed(self) and isinstance(module, importlib.import_module("snntorch").SpikingNeuron)

    def forms(self, module: nn.Module) -> tuple[Form, ...] | None:
        return None

    def set_form(self, net: nn.Module, form: Form) -> None:
        """A module of snnTorch has one form."""

    def reset(self, net: nn.Module) -> None:
        importlib.import_module("snntorch.utils").reset(net)

    def reset_one(self, module: nn.Module) -> None:
        if not hasattr(module, "reset_mem"):
            raise AttributeError(f"{type(module).__name__} has no reset_mem(), which snnTorch's utils.reset calls")
        module.reset_mem()

    def detach(self, net: nn.Module) -> None:
        classes = {type(module) for module in net.modules() if hasattr(type(module), "detach_hidden")}
        if not classes:
            raise NotApplicable("no class has snnTorch's detach_hidden(); pass detach=lambda net: ...")
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
        neuron = importlib.import_module("snntorch").SpikingNeuron
        before = list(neuron.instances)  # keeps every neuron alive, and detach_hidden walks over all of them
        try:
            yield
        finally:
            neuron.instances[:] = before


class SpikingJelly:
    name = "SpikingJelly"
    package = "spikingjelly"

    def owns(self, module: nn.Module) -> bool:
        return _installed(self) and isinstance(module, self._base().StepModule)

    def forms(self, module: nn.Module) -> tuple[Form, ...] | None:
        if not hasattr(module, "supported_step_mode"):
            return ("step",)
        modes = module.supported_step_mode()
        return tuple(form for mode, form in (("s", "step"), ("m", "sequence")) if mode in modes)

    def set_form(self, net: nn.Module, form: Form) -> None:
        mode = "s" if form == "step" else "m"
        for module in net.modules():
            if hasattr(module, "step_mode") and mode in module.supported_step_mode():
                module.step_mode = mode

    def reset(self, net: nn.Module) -> None:
        self.functional().reset_net(net)

    def reset_one(self, module: nn.Module) -> None:
        if not hasattr(module, "reset"):
            raise AttributeError(f"{type(module).__name__} has no reset(), which functional.reset_net calls")
        module.reset()

    def detach(self, net: nn.Module) -> None:
        self.functional().detach_net(net)

    def states(self, module: nn.Module) -> dict[str, Tensor]:
        if not isinstance(module, self._base().MemoryModule):
            return {}
        return {name: value for name, value in module.named_memories() if isinstance(value, Tensor)}

    def spikes(self) -> tuple[str, ...]:
        return ("surrogate_function",)

    def smooth(self):
        surrogate = importlib.import_module("spikingjelly.activation_based.surrogate")
        return surrogate.Sigmoid(alpha=3.0, spiking=False)

    @contextmanager
    def alone(self) -> Iterator[None]:
        yield

    @staticmethod
    def functional():
        return importlib.import_module("spikingjelly.activation_based.functional")

    @staticmethod
    def _base():
        return importlib.import_module("spikingjelly.activation_based.base")


def _smooth(x: Tensor) -> Tensor:
    return torch.sigmoid(3.0 * x)


FRAMEWORKS: dict[str, Framework] = {each.package: each for each in (SnnTorch(), SpikingJelly())}


def _installed(framework: Framework) -> bool:
    return find_spec(framework.package) is not None


def framework_of(module: nn.Module, name: str | None = None) -> Framework:
    """
    :param name: ``"snntorch"`` or ``"spikingjelly"``; None: found out. A plain ``nn.Module`` counts as snnTorch's, whose
        networks are made of them.
    """
    if name is not None:
        if name not in FRAMEWORKS:
            raise ValueError(f"framework must be one of {', '.join(FRAMEWORKS)}, got {name!r}")
        return FRAMEWORKS[name]
    for framework in FRAMEWORKS.values():
        if framework.owns(module):
            return framework
    inside = {framework.package for framework in FRAMEWORKS.values() for each in module.modules() if framework.owns(each)}
    for package in (*sorted(inside), "snntorch", "spikingjelly"):
        if _installed(FRAMEWORKS[package]):
            return FRAMEWORKS[package]
    raise ImportError("neither snnTorch nor SpikingJelly is installed; the kit checks plug-ins of the two")
