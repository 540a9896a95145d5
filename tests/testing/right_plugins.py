"""Two leaky neurons as the kit wants them, one for each framework: what the faulty ones are compared with."""

from __future__ import annotations

import weakref

import torch
from spikingjelly.activation_based.neuron import BaseNode
from spikingjelly.activation_based.surrogate import ATan
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

alive: weakref.WeakSet = weakref.WeakSet()


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad / (1 + x.abs()) ** 2


def spike(x: Tensor) -> Tensor:
    return Spike.apply(x)


def in_bounds(optimizer, *_) -> None:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for module in list(alive):
        if id(module.beta) in held:
            module.keep_in_bounds()


register_optimizer_step_post_hook(in_bounds)


class Bounded(nn.Module):
    """A leak in [0, 1] per neuron, and the refusal of a step that a backward pass runs a second time."""

    parameter_bounds = {"beta": (0.0, 1.0)}  # noqa: RUF012
    written_in = -1

    def add_leak(self, size: int) -> None:
        self.beta = nn.Parameter(torch.linspace(0.6, 0.9, size))
        alive.add(self)

    def keep_in_bounds(self) -> None:
        with torch.no_grad():
            self.beta.clamp_(0, 1)

    def refuse_second_time(self) -> None:
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() not in (-1, self.written_in):
            raise RuntimeError("checkpointed without a reset inside")

    def starts_anew(self) -> None:
        self.written_in = torch._C._current_graph_task_id()

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        alive.add(self)


class RightNeuron(Bounded):
    """snnTorch: one step per call, the state in an attribute."""

    def __init__(self, size: int = 5) -> None:
        super().__init__()
        self.spike_grad, self.mem = spike, None
        self.add_leak(size)

    def start(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def before(self, x: Tensor, mem: Tensor | None) -> Tensor:
        mem = self.mem if mem is None else mem
        if mem is None or not mem.numel():
            return self.start(x)
        if mem.shape != x.shape:
            raise ValueError(f"mem {tuple(mem.shape)} does not fit the input {tuple(x.shape)}")
        return mem

    def step(self, x: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
        mem = self.beta * mem + x - self.spike_grad(mem - 1)
        return self.spike_grad(mem - 1), mem

    def forward(self, x: Tensor, mem: Tensor | None = None):
        self.refuse_second_time()
        spk, self.mem = self.step(x, self.before(x, mem))
        return spk, self.mem

    def reset_mem(self) -> Tensor:
        self.starts_anew()
        self.mem = None
        return torch.zeros(0)

    def detach_mem(self) -> None:
        if self.mem is not None:
            self.mem = self.mem.detach()

    @classmethod
    def detach_hidden(cls) -> None:
        for neuron in list(alive):
            if isinstance(neuron, cls):
                neuron.detach_mem()

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        if self.mem is not None:
            self.mem = fn(self.mem)
        return self

    def __getstate__(self) -> dict:
        return {**self.__dict__, "mem": None if self.mem is None else self.mem.detach()}


class RightNode(Bounded, BaseNode):
    """SpikingJelly: both step modes, the state a memory."""

    def __init__(self, size: int = 5) -> None:
        super().__init__(surrogate_function=ATan(), v_reset=None)
        self.add_leak(size)

    def materialize_states(self, inputs: tuple, states: tuple, step_mode: str) -> tuple:
        x = inputs[0].new_zeros(inputs[0].shape[1:]) if step_mode == "m" else inputs[0]
        v = states[0] if isinstance(states[0], Tensor) else torch.zeros_like(x)
        if v.shape != x.shape:
            raise RuntimeError(f"v {tuple(v.shape)} does not fit the input {tuple(x.shape)}")
        return (v,)

    def single_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple:
        v = self.beta * states[0] + inputs[0]
        s = self.surrogate_function(v - self.v_threshold)
        return (s,), (v - s * self.v_threshold,)

    def multi_step_functional_forward(self, inputs: tuple, states: tuple, **kwargs) -> tuple:
        if not len(inputs[0]):
            return (inputs[0] * self.beta,), states
        return super().multi_step_functional_forward(inputs, states, **kwargs)

    def forward(self, *args, **kwargs):
        if isinstance(self.v, Tensor):
            self.refuse_second_time()
        return super().forward(*args, **kwargs)

    def reset(self) -> None:
        self.starts_anew()
        super().reset()

    def __getstate__(self) -> dict:
        detached = {name: v.detach() if isinstance(v, Tensor) else v for name, v in self._memories.items()}
        return {**self.__dict__, "_memories": detached}


def reset(net: nn.Module) -> None:
    """What snnTorch 1.0's utils.reset is not: at any depth, of this network alone, for every class."""
    for module in net.modules():
        if hasattr(module, "reset_mem"):
            module.reset_mem()
