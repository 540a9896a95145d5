"""Which surrogates the kernels serve: those that emit 0 or 1 and scale the gradient by a number of each neuron."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

__all__ = ["surrogate_obstacle"]

_probed: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def surrogate_obstacle(surrogate: Callable) -> str | None:
    """Why the kernel of linear neurons cannot stand for the surrogate; None: it can."""
    if getattr(surrogate, "is_boxcar", False):
        return None
    if torch.compiler.is_compiling():
        return "torch.compile traces through the kernel with the boxcar surrogate alone"
    if isinstance(surrogate, torch.nn.Module) and any(p.requires_grad for p in surrogate.parameters()):
        return "the surrogate has trainable parameters"
    if not getattr(surrogate, "spiking", True):  # SpikingJelly: the smooth primitive function
        return "the surrogate is not known to emit 0 or 1 (spiking=False)"
    try:
        if surrogate not in _probed:
            _probed[surrogate] = _probe(surrogate)
        return _probed[surrogate]
    except TypeError:  # a callable that can be no key
        return _probe(surrogate)


def _probe(surrogate: Callable) -> str | None:
    """Why the kernel, which needs nothing of a surrogate but the number ds/dx of each neuron, cannot stand for it."""
    try:
        with unset_fake_temporarily():  # the answer is kept for real tensors too
            return _answer(surrogate)
    except Exception as error:  # whatever somebody's function raises: the plain form will raise it, or not
        return f"the surrogate could not be tried in float32 on the CPU: {error}"


def _answer(surrogate: Callable) -> str | None:
    x = torch.linspace(-3, 3, 128, device="cpu")  # without zero, where surrogates differ and the neuron's own rule decides
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.device("cpu"):
        leaf = x.clone().requires_grad_()
        spikes = surrogate(leaf)
        if spikes.shape != x.shape or not torch.equal(spikes.detach().to(x.dtype), (x > 0).to(x.dtype)):
            return "the surrogate is not known to emit 0 or 1 (it does not spike exactly above the threshold)"
        if not spikes.requires_grad:
            return None
        g = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(spikes.dtype)
        (slope,) = torch.autograd.grad(surrogate(leaf), leaf, torch.ones_like(g))
        (pulled,) = torch.autograd.grad(spikes, leaf, g)
    if not torch.allclose(pulled, g.to(slope.dtype) * slope, rtol=1e-4, atol=1e-6):
        return "the surrogate's backward is not ds/dx times the incoming gradient"
    return None
