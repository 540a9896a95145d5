"""Which module of a network feeds which: found by running it, so that loops over time and states in the user's hands are
no obstacle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from .needed import refuse

__all__ = ["INPUT", "Call", "Port", "Wiring", "trace"]

INPUT = ""
"""The name of the network's input among those of modules."""


class Port(NamedTuple):
    """A value: which output of which module, and what else happened to it that no edge of a graph can say."""

    module: str
    output: int = 0
    changed: str = ""


@dataclass
class Call:
    """How a module is called."""

    name: str
    module: nn.Module
    sources: frozenset[Port]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...] = ()


@dataclass
class Wiring:
    """Modules in the order of their first call, and what the network returns."""

    calls: dict[str, Call] = field(default_factory=dict)
    outputs: frozenset[Port] = frozenset()


_ALONG_TIME = {
    "torch.Tensor.unbind", "torch.unbind", "torch.stack", "torch.Tensor.clone", "torch.clone", "torch.Tensor.detach",
    "torch.Tensor.to", "torch.Tensor.float", "torch.Tensor.double", "torch.Tensor.contiguous", "torch.Tensor.__iter__",
}  # fmt: skip
_SUMS = {"torch.Tensor.add", "torch.add", "torch.Tensor.__add__", "torch.Tensor.__radd__", "torch.Tensor.__iadd__",
         "torch.Tensor.add_"}  # fmt: skip


class _Provenance(TorchFunctionMode):
    """Follows values from module to module. What is done to them between modules is a sum, a step in time, or a change
    that is complained of where the value is used."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.inside = 0
        self._ports: dict[int, frozenset[Port]] = {}
        self._alive: list[Tensor] = []  # an id belongs to a tensor as long as this lives

    def mark(self, value: Tensor, ports: frozenset[Port]) -> None:
        self._ports[id(value)] = ports
        self._alive.append(value)

    def ports(self, value: object) -> frozenset[Port]:
        return self._ports.get(id(value), frozenset())

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if self.inside:
            return out
        given = _tensors((args, kwargs or {}))
        ports = frozenset().union(*(self.ports(value) for value in given))
        if ports:
            name = resolve_name(func) or getattr(func, "__name__", str(func))
            ports = self._after(name, args, kwargs or {}, given, ports)
            for value in _tensors(out):
                self.mark(value, ports)
        return out

    def _after(self, name: str, args: tuple, kwargs: dict, given: list[Tensor], ports: frozenset[Port]) -> frozenset[Port]:
        changed = f"{name.removeprefix('torch.').removeprefix('Tensor.')}()"
        if name in _SUMS and not kwargs.get("alpha"):
            numbers = [value for value in args if isinstance(value, int | float) and value != 0]
            if not numbers and all(self.ports(value) for value in given):
                return ports
        elif name in _ALONG_TIME:
            dim = kwargs.get("dim", next((value for value in args[1:] if isinstance(value, int)), 0))
            if ("stack" not in name and "unbind" not in name) or dim == 0:
                return ports
            changed = f"{changed[:-1]}dim={dim})"
        elif name == "torch.Tensor.__getitem__" and isinstance(args[1], int):
            return ports
        return frozenset(port if port.changed else port._replace(changed=changed) for port in ports)


def trace(net: nn.Module, sample: Tensor, is_leaf: Callable[[nn.Module], bool]) -> Wiring:
    """
    :param is_leaf: whether a module is one node (or a few) of the graph, whatever is in it.
    :raises NIRError: where values flow in a way that no graph of modules says.
    """
    wiring = Wiring()
    mode = _Provenance(wiring)
    hooks = [hook for name, module in _leaves(net, is_leaf) for hook in _watch(mode, name or type(net).__name__, module)]
    try:
        with torch.no_grad(), mode:
            mode.mark(sample, frozenset({Port(INPUT)}))
            out = net(sample)
    finally:
        for hook in hooks:
            hook.remove()
    wiring.outputs = _returned(mode, out)
    return wiring


def _leaves(net: nn.Module, is_leaf: Callable[[nn.Module], bool]) -> list[tuple[str, nn.Module]]:
    found, inside = [], set()
    for name, module in net.named_modules():
        if module in inside:
            continue
        if is_leaf(module) or not any(True for _ in module.children()):
            found.append((name, module))
            inside.update(module.modules())
    return found


def _watch(mode: _Provenance, name: str, module: nn.Module) -> list:
    def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
        mode.inside += 1
        if mode.inside > 1:
            return
        given = _tensors((args, kwargs))
        sources = mode.ports(given[0]) if given else frozenset()
        for state in given[1:]:
            for port in mode.ports(state):
                if port.module != name:
                    refuse(name, f"is also given a value of {port.module or 'the input'!r}; NIR's nodes have one input")
        if not sources:
            refuse(name, "is called on a tensor that comes from neither the input nor another module")
        call = mode.wiring.calls.setdefault(name, Call(name, module, sources, tuple(given[0].shape)))
        if call.sources != sources:
            was, now = (_said(ports) for ports in (call.sources, sources))
            refuse(name, f"is called on {was} and on {now}: NIR has no shared weights, and of recurrent synapses those of "
                         "DelayedRecurrent alone are exported")  # fmt: skip

    def after(_: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        mode.inside -= 1
        if mode.inside:
            return
        values = _tensors(out)
        if not values:
            return
        mode.wiring.calls[name].output_shape = tuple(values[0].shape)
        for i, value in enumerate(values):
            mode.mark(value, frozenset({Port(name, i)}))

    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ]


def _said(ports: frozenset[Port]) -> str:
    return " + ".join(sorted(repr(port.module) if port.module else "the input" for port in ports))


def _returned(mode: _Provenance, out: Any) -> frozenset[Port]:
    values = _tensors(out)
    ports = mode.ports(values[0]) if values else frozenset()
    if not ports:
        refuse("the network", "returns nothing that comes from one of its modules")
    return ports


def _tensors(tree: Any) -> list[Tensor]:
    return [value for value in tree_leaves(tree) if isinstance(value, Tensor)]
