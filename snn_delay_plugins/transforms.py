"""Which transform of a function is running: ``torch.func`` (grad, vjp, jvp, vmap, jacobians), or forward-mode AD.

Compiled operators have one rule, their gradient in reverse mode. A transform that asks for another would get a zero
tangent, or torch's words about its internals: dispatch then takes the plain PyTorch form, and what has none refuses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .callers import user_level

__all__ = [
    "REVERSE_ALONE", "check_left_behind", "exported_step", "exporting", "exporting_to_onnx", "refuse_transforms",
    "transform", "vectorised",
]  # fmt: skip

REVERSE_ALONE = (
    "its derivatives exist in reverse mode alone; call it on a whole batch, and use backward(), "
    "torch.autograd.grad or torch.autograd.functional.jacobian"
)
"""The remedy of EventProp."""
_functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue] - torch's stubs leave it out
_Function = TypeVar("_Function", bound=Callable)
_NAMES = {"Vmap": "torch.func.vmap", "Grad": "torch.func.grad", "Jvp": "torch.func.jvp"}


def _constant_while_compiled(function: _Function) -> _Function:
    """What ``torch.compiler.assume_constant_result`` does, without the import of the compiler, which takes longer than that
    of torch. Another version of torch may mark functions in another way: ``tests/test_import.py`` compares."""
    function.__dict__["_dynamo_marked_constant"] = True
    return function


@_constant_while_compiled  # a compiled graph is guarded by the transforms that it was traced in
def transform() -> str | None:
    """The innermost transform that is running, in a user's words; None (a few hundred nanoseconds later) without one."""
    innermost = _functorch.peek_interpreter_stack()
    if innermost is not None:
        name = innermost.key().name
        return _NAMES.get(name, f"torch.func.{name.lower()}")
    return "forward-mode AD" if forward_ad._current_level >= 0 else None


@_constant_while_compiled
def vectorised() -> bool:
    """Whether a ``vmap`` is running, anywhere: then a tensor stands for several, and single values cannot be looked at."""
    stack = _functorch.get_interpreter_stack()
    return stack is not None and any(level.key().name == "Vmap" for level in stack)


def refuse_transforms(name: str, remedy: str, vmap: bool = True) -> None:
    """
    :param vmap: whether ``vmap`` alone is refused too.
    :raises NotImplementedError: inside of a transform.
    """
    running = transform()
    if running is not None and (vmap or not _only_vmap()):
        raise NotImplementedError(f"{name} cannot pass through {running}: {remedy}")


@_constant_while_compiled
def _only_vmap() -> bool:
    stack = _functorch.get_interpreter_stack() or ()
    return forward_ad._current_level < 0 and all(level.key().name == "Vmap" for level in stack)


def exporting() -> bool:
    """Whether ``torch.export`` records a program. It starts anew at every call: no state of the layers may enter it, and
    they must keep nothing of the tensors without values that export computes with."""
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


def exporting_to_onnx() -> bool:
    """Whether the program that ``torch.export`` records becomes one of ONNX, which knows no operators of this package."""
    return torch.compiler.is_compiling() and _in_onnx_export()


@_constant_while_compiled
def _in_onnx_export() -> bool:
    return torch.onnx.is_in_onnx_export()


def exported_step(name: str) -> bool:
    """Whether ``torch.export`` records a step of a layer that carries a state, which is said."""
    if not exporting():
        return False
    warnings.warn(
        f"torch.export records a single step of {name}: the program carries no state from call to call and "
        "starts anew at every one; export the form over whole sequences",
        stacklevel=user_level(),
    )
    return True


def check_left_behind(*states: object) -> None:
    """
    :raises RuntimeError: for a state that a module kept from a ``vmap`` which has ended.
    """
    if torch.compiler.is_compiling():
        return
    if any(isinstance(x, Tensor) and _functorch.is_batchedtensor(x) for x in states) and not vectorised():
        raise RuntimeError(
            "a state is left behind by torch.func.vmap, which has ended: reset the network (reset_mem(), "
            "reset_delay(), snn_delay_plugins.snntorch.reset(net) or, in SpikingJelly, "
            "functional.reset_net(net)) after it, or inside of the function that vmap maps"
        )
