"""SpikingJelly as the conformance kit sees it: how its modules are recognised, run, reset and detached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from spikingjelly.activation_based import base, functional, surrogate
from torch import Tensor, nn

__all__ = ["Conformance"]

Form = Literal["step", "sequence"]


class Conformance:
    """What :class:`snn_delay_plugins.testing.frameworks.Framework` asks for."""

    name = "SpikingJelly"
    package = "spikingjelly"
    declares_states = True

    def owns(self, module: nn.Module) -> bool:
        return isinstance(module, base.StepModule)

    def forms(self, module: Any) -> tuple[Form, ...] | None:
        if not hasattr(module, "supported_step_mode"):
            return ("step",)
        modes = module.supported_step_mode()
        known: tuple[tuple[str, Form], ...] = (("s", "step"), ("m", "sequence"))
        return tuple(form for mode, form in known if mode in modes)

    def set_form(self, net: nn.Module, form: Form) -> None:
        mode = "s" if form == "step" else "m"
        module: Any  # StepModule is a mixin, which type checkers do not see here
        for module in net.modules():
            if hasattr(module, "step_mode") and mode in module.supported_step_mode():
                module.step_mode = mode

    def reset(self, net: nn.Module) -> None:
        functional.reset_net(net)

    def reset_hint(self, module: nn.Module) -> str:
        return ""

    def reset_one(self, module: Any) -> None:
        if not hasattr(module, "reset"):
            raise AttributeError(f"{type(module).__name__} has no reset(), which functional.reset_net calls")
        module.reset()

    def detach(self, net: nn.Module) -> None:
        functional.detach_net(net)

    def states(self, module: nn.Module) -> dict[str, Tensor]:
        if not isinstance(module, base.MemoryModule):
            return {}
        return {name: value for name, value in module.named_memories() if isinstance(value, Tensor)}

    def spikes(self) -> tuple[str, ...]:
        return ("surrogate_function",)

    def smooth(self):
        return surrogate.Sigmoid(alpha=3.0, spiking=False)

    @contextmanager
    def alone(self) -> Iterator[None]:
        yield
