"""Which bounded parameters have to be brought back after an optimizer's step: found once, looked up after every step.

A parameter does not know its module, and an optimizer knows parameters alone. After the first step of an optimizer the
modules that are alive are searched for its parameters; what was found is kept beside the optimizer until one of the
two sides changes: other parameters in the optimizer, another parameter at its place in a module, a new module, a new
interval. No weak reference to a parameter is kept, which ``torch.utils.swap_tensors`` would refuse.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from .kernels import delay_line

if TYPE_CHECKING:
    from .bounds import BoundedModule

__all__ = ["live_modules", "structure_changed", "watch"]

_live: set[weakref.ref[BoundedModule]] = set()
_structure = object()  # another one after every change; a plan holds the one it was made under


def watch(module: BoundedModule) -> None:
    """Find the parameters of ``module`` from now on in the optimizers that hold them."""
    _live.add(weakref.ref(module, _live.discard))
    structure_changed()


def live_modules() -> list[BoundedModule]:
    """Every module of this package that is alive in this process, copies included."""
    # a set of weak references is copied in one step that no other thread can come between; a WeakSet is not
    return [module for reference in list(_live) if (module := reference()) is not None]


def structure_changed() -> None:
    """Search again after the next step of every optimizer."""
    global _structure
    _structure = object()


class _Place(NamedTuple):
    module: weakref.ref[BoundedModule]
    name: str
    identity: int
    low: float
    high: float


class _Plan(NamedTuple):
    structure: object
    held: list[int]
    places: list[_Place]


_plans: weakref.WeakKeyDictionary[Optimizer, _Plan] = weakref.WeakKeyDictionary()


def _plan(structure: object, held: list[int]) -> _Plan:
    wanted, places = set(held), []
    for module in live_modules():
        for name, (low, high) in module.projected_bounds.items():
            identity = id(module.stored(name))
            if identity in wanted:
                places.append(_Place(weakref.ref(module), name, identity, low, high))
    return _Plan(structure, held, places)


def _stepped(plan: _Plan) -> list[tuple[torch.Tensor, float, float]] | None:
    """The parameters of ``plan`` that have a gradient, with their intervals; None if the plan no longer holds."""
    found = []
    for reference, name, identity, low, high in plan.places:
        module = reference()
        value = None if module is None else module.stored(name)
        if value is None or id(value) != identity:
            return None
        if value.grad is not None:
            found.append((value, low, high))
    return found


def _project_after_step(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
    delay_line.values_changed()
    if not _live:
        return
    structure = _structure  # before the search: what changes meanwhile is searched for after the next step
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    plan = _plans.get(optimizer)
    stepped = None
    if plan is not None and plan.structure is structure and plan.held == held:
        stepped = _stepped(plan)
    if stepped is None:
        _plans[optimizer] = plan = _plan(structure, held)
        stepped = _stepped(plan) or []
    with torch.no_grad():
        for value, low, high in stepped:
            value.clamp_(low, high)


register_optimizer_step_post_hook(_project_after_step)
