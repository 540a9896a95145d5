"""What the kit has to know of a framework: how to recognise its modules, run them, and make them forget.

Each framework's folder brings its own (``conformance`` of :class:`snn_delay_plugins.frameworks.Framework`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from torch import Tensor, nn

from .. import frameworks

__all__ = ["Form", "Framework", "adapters", "framework_of"]

Form = Literal["step", "sequence"]


class Framework(Protocol):
    name: str
    package: str
    declares_states: bool
    """Whether :meth:`states` gives what the module has declared, or tensors that may be something else."""

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

    def reset_hint(self, module: nn.Module) -> str:
        """Why the framework's own function may not reach a module like this one; empty if it does."""
        ...

    def reset_one(self, module: nn.Module) -> None:
        """What the framework expects a module to have itself."""
        ...

    def detach(self, net: nn.Module) -> None:
        """The framework's own way.

        :raises NotImplementedError: if no module of ``net`` can be detached in it, with what a user may do.
        """
        ...

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


def adapters() -> dict[str, Framework]:
    """Those of the frameworks that are installed, by name (:mod:`snn_delay_plugins.frameworks`)."""
    return {framework.name: framework.conformance() for framework in frameworks.installed() if framework.conformance}


def framework_of(module: nn.Module, name: str | None = None) -> Framework:
    """
    :param name: ``"snntorch"``, ``"spikingjelly"``, ...; None: found out. A plain ``nn.Module`` counts as that of the
        framework whose modules it holds, else as snnTorch's, whose networks are made of them.
    """
    known = adapters()
    if not known:
        titles = " nor ".join(framework.title for framework in frameworks.known())
        raise ImportError(f"neither {titles} is installed; the kit checks plug-ins of these")
    if name is not None:
        if name not in known:
            raise ValueError(f"framework must be one of those installed, {', '.join(known)}, got {name!r}")
        return known[name]
    for modules in ([module], list(module.modules())):
        for framework in known.values():
            if any(framework.owns(each) for each in modules):
                return framework
    return next(iter(known.values()))
