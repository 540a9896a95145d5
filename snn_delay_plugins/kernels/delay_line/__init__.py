r"""Layers with delays one time step at a time, with gradients.

Between two steps everything that matters is linear. Forwards, the spikes of a step add their taps to the currents to
come; backwards, a spike meets the gradients of the currents that it causes later. A :class:`Line` is this bound to the
values that the synapses have: as long as neither these nor the history are changed from outside, a step costs a visit of
its spikes to their synapses, and keeps for the backward pass nothing but its spikes.

The graph: all steps of a line hang on each other by a token, so that the backward pass visits them from the last to the
first. The gradient of the token carries a tape (:class:`~.listed.ListedTape`), which belongs to one backward
pass: the gradients of the steps after this one, and sums of the gradients of taps and bias, which the line's first node
hands to autograd. A token has one consumer. Who goes on from an older state than the last (branches, snapshots) begins a
new line from its history, which is an ordinary differentiable tensor.

Shapes: spikes ``[N, in]``, history ``[H, N, in]`` newest first, current ``[N, out]`` (convolutions: positions behind).
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from ..checks import check_room
from ..dispatch import warn_once
from ..op_counts import counting

__all__ = ["Line", "begin", "key_of", "silent_history", "state_of", "step", "values_changed"]

_NUMBERS = {torch.float32: np.float32, torch.float64: np.float64}


class Line:
    """Currents on their way, of one sequence of steps over the same synapses.

    :param synapses: :class:`~.listed.ListedSynapses` or :class:`~.dense.DenseSynapses`.
    :param key: what the synapses were computed from; another key, another line. :param held: the tensors named there.
    """

    def __init__(self, synapses, bias: Tensor | None, history: Tensor, key: tuple, held: tuple) -> None:
        self.synapses, self.bias, self.key = synapses, bias, key
        # and their memory, or other numbers could come to lie at the same address
        self.held = held, [None if x is None else x.detach() for x in held]
        self.length, self.samples, self.dtype = history.shape[0], history.shape[1], history.dtype
        self.pending, self.offset = synapses.silence(history[0]), synapses.offset(bias)
        self.now = self.clock = 0
        self.spent = self.to_spikes = False
        self.page = None
        if self.dtype in _NUMBERS and history.is_cpu:  # numpy has them
            self.page, self.row = np.zeros((2 * self.length, *history.shape[1:]), _NUMBERS[self.dtype]), self.length
            self.page[self.row :] = history.detach().resolve_neg().numpy()
        if history.count_nonzero():
            for past in reversed(history.detach().unbind()[: synapses.reach - 1]):
                self.arrive(past)

    def arrive(self, spikes: Tensor) -> tuple[Tensor, tuple]:
        if self.now == self.synapses.room:
            self.synapses.forwards(self.pending, self.now)
            self.now = 0
        current, left = self.synapses.arrive(spikes, self.pending, self.now, self.offset)
        self.now += 1
        return current, left

    def advance(self, spikes: Tensor, history: Tensor) -> tuple[Tensor, Tensor, tuple]:
        """The currents of a step, the next history, and what the synapses say of the spikes."""
        current, left = self.arrive(spikes)
        self.clock += 1
        return current if current.dtype == self.dtype else current.to(self.dtype), self.remember(spikes, history), left

    def remember(self, spikes: Tensor, history: Tensor) -> Tensor:
        """The next history. It is a view of a page that only grows: as long as nobody writes into one of them, nobody sees
        an older one change."""
        if self.page is None:
            return torch.cat([spikes.detach()[None], history.detach()[:-1]])
        if self.row == 0:
            page = np.empty_like(self.page)
            page[self.length + 1 :] = self.page[: self.length - 1]
            self.page, self.row = page, self.length + 1
        self.row -= 1
        self.page[self.row] = spikes.detach().numpy()
        return torch.from_numpy(self.page[self.row : self.row + self.length])


def silent_history(spikes: Tensor, length: int) -> Tensor:
    """No spikes in ``length`` steps before those of the first.

    :raises ValueError: for more than the memory holds, with the page that the line keeps.
    """
    if spikes.is_cpu and not torch.compiler.is_compiling():
        check_room(
            f"the history of {length} steps of {' x '.join(map(str, spikes.shape))} spikes",
            3 * length * spikes.numel() * spikes.itemsize,
        )
    return spikes.new_zeros(length, *spikes.shape)


_changes = 0


def values_changed() -> None:
    """Tensors may have been written to behind torch's back: the next step of every line begins a new one.

    Fused optimizers do not raise the version of what they write, and tensors made in inference mode have none.
    """
    global _changes
    _changes += 1


def key_of(held: tuple[Tensor | None, ...], computed: tuple[Computed, ...] = ()) -> tuple:
    """What changes when one of these tensors is replaced or written to, where other gradients are wanted, and, at its end,
    when what is computed from them comes out different."""
    return _changes, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), [
        None if x is None else (id(x), x.data_ptr(), 0 if x.is_inference() else x._version, x.requires_grad)
        for x in held
    ], computed  # fmt: skip


class Computed:
    """A part of a key: the values of a tensor that a module computes anew. Equal ones, of the same origins, have the same
    gradients: a line goes on with those that it has.

    :param name: of the tensor, for a warning.
    """

    def __init__(self, tensor: Tensor, name: str) -> None:
        self.tensor, self.version, self.name, self.changes = tensor, _version(tensor), name, 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Computed):
            return False
        one, two = self.tensor, other.tensor
        if one is two:
            return self.version == other.version
        alike = one.requires_grad == two.requires_grad and one.dtype == two.dtype and one.device == two.device
        return alike and torch.equal(one, two)

    __hash__ = None  # pyright: ignore[reportAssignmentType] - what Python itself sets beside __eq__


class State(NamedTuple):
    """What is known of a history that a step returned beside its numbers."""

    line: Line
    clock: int
    token: Tensor
    version: int


_states: dict[int, tuple[weakref.ref, State]] = {}
"""By the identity of the history. A copy has none, and begins a line of its own."""


def state_of(history: Tensor | None, key: tuple, spikes: Tensor) -> State | None:
    """The state to go on from with these spikes; None where a new line has to begin."""
    reference, state = _states.get(id(history), (None, None))
    if history is None or state is None or reference is None or reference() is not history:
        return None
    line = state.line
    if line.clock != state.clock or line.spent or _version(history) != state.version:
        return None
    if line.key != key:
        if line.clock == 1 and line.key[:-1] == key[:-1]:
            _count_changes(line.key[-1], key[-1])
        return None
    if _in_checkpoint():
        return None
    return state if spikes.shape == history.shape[1:] else None


def _count_changes(before: tuple[Computed, ...], now: tuple[Computed, ...]) -> None:
    """Warn where one step after the other is the only one of its line."""
    for one, two in zip(before, now, strict=True):
        if one == two:
            continue
        two.changes = one.changes + 1
        if two.changes > 2:
            warn_once(
                f"{two.name} of a layer with delays in step mode: computed anew for every step, it comes out different "
                "(spectral_norm in training, noise), so that every step begins anew, in time and memory for all synapses. "
                "Compute it once per sequence: step inside of `with torch.nn.utils.parametrize.cached():`, or feed whole "
                "sequences"
            )


def _in_checkpoint() -> bool:
    """Inside ``torch.utils.checkpoint``, which expects a second run to keep the very tensors of the first one: there a
    step hangs on nothing but its arguments, and begins a line of its own."""
    if not torch.is_grad_enabled():
        return False
    hooks = _top_hooks(True)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"


_autograd = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue] - torch's stubs leave it out
_top_hooks = getattr(_autograd, "_top_saved_tensors_default_hooks", lambda ignore_is_tracing: None)


def _keep(history: Tensor, state: State) -> None:
    name = id(history)
    _states[name] = (weakref.ref(history, lambda _: _states.pop(name, None)), state)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def begin(line: Line, history: Tensor) -> State:
    if history.is_inference() and not torch.is_inference_mode_enabled():
        history = history.clone()  # or it could not be kept for the backward pass
    token = _Start.apply(line.synapses.taps, line.bias, history, line)
    return State(line, 0, token, _version(history))


def step(spikes: Tensor, history: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """Currents of one step, and the history for the next."""
    line, spikes = state.line, spikes.resolve_neg()  # numpy does not know of numbers that are stored negated
    if counting() and not torch.compiler.is_compiling():
        line.synapses.announce(spikes)
    if torch.is_grad_enabled() and (state.token.requires_grad or spikes.requires_grad or history.requires_grad):
        current, history, token = _Step.apply(spikes, history, state.token, line)
    else:
        current, history, *_ = line.advance(spikes, history)
        token = state.token
    _keep(history, State(line, line.clock, token, _version(history)))
    return current, history


# ------------------------------------------------------------------------------------------------ the backward pass


class _Start(Function):
    """The first node of a line: (taps, bias, history) -> token."""

    @staticmethod
    def forward(ctx, taps, bias, history, line):
        ctx.line = line
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(taps, history)
        line.to_spikes |= history.requires_grad
        return taps.new_zeros(1)

    @staticmethod
    def backward(ctx, g_token):
        if g_token is None:
            return None, None, None, None
        refuse_second_derivatives()
        line, tape = ctx.line, g_token.tape
        _, history = saved(ctx)
        line.spent = True
        to_history = ctx.needs_input_grad[2]
        g_history = torch.zeros_like(history) if to_history else None
        if to_history or history.count_nonzero():
            for age, past in enumerate(history.detach().unbind()[: line.synapses.reach - 1]):
                grad = tape.retreat(None, line.synapses.kept(past), to_history)
                if g_history is not None:
                    g_history[age] = grad
        g_taps, g_bias = tape.sums()
        g_taps = g_taps.to(line.synapses.dtype) if ctx.needs_input_grad[0] else None
        g_bias = g_bias.to(line.bias.dtype) if ctx.needs_input_grad[1] else None
        return g_taps, g_bias, g_history, None


class _Step(Function):
    """(spikes, history, token) -> (current, the next history, the next token)."""

    @staticmethod
    def forward(ctx, spikes, history, token, line):
        graph = spikes.requires_grad or history.requires_grad
        line.to_spikes |= graph
        current, later, left = line.advance(spikes, history)
        ctx.line = line
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*line.synapses.keep(left))
        if not graph:
            ctx.mark_non_differentiable(later)
        return current, later, token.new_empty(1)

    @staticmethod
    def backward(ctx, g_current, g_history, g_token):
        refuse_second_derivatives()
        if g_token is None:  # the first of this backward pass
            _refuse_batched(g_current, g_history)
        line, kept = ctx.line, saved(ctx)
        line.spent = True
        if g_token is None:
            g_token = line.synapses.taps.new_zeros(1)
            g_token.tape = line.synapses.tape(line)
        to_spikes, to_history, _, _ = ctx.needs_input_grad
        g_spikes = g_token.tape.retreat(g_current, kept, to_spikes)
        g_spikes = g_spikes.to(line.dtype) if to_spikes else None
        g_before = None
        if g_history is not None:  # somebody read the history beside the line
            if to_spikes:
                g_spikes = g_spikes + g_history[0]
            if to_history:
                g_before = torch.cat([g_history[1:], torch.zeros_like(g_history[:1])])
        return g_spikes, g_before, g_token, None


def saved(ctx) -> tuple[Tensor, ...]:
    try:
        return ctx.saved_tensors
    except RuntimeError as error:
        if "Trying to backward through the graph a second time" not in str(error):
            raise
        raise RuntimeError(
            "a second backward pass reached steps of a layer with delays whose graph has been freed: its spikes of an "
            "earlier sequence are still on their way. Between sequences call reset (snn_delay_plugins.snntorch.reset(net), "
            "layer.reset_delay() or spikingjelly's functional.reset_net(net)); between windows of one sequence detach "
            "(snn_delay_plugins.snntorch.detach(net), DelayedLinear.detach_hidden() or functional.detach_net(net)); "
            "or call backward(retain_graph=True)"
        ) from error


_KEYS = (
    torch._C._parse_dispatch_key(name) for name in ("Batched", "FuncTorchBatched")
)  # autograd's own vmap, torch.func's
_BATCHED = tuple(key for key in _KEYS if key is not None)


def _refuse_batched(*gradients: Tensor | None) -> None:
    """Several gradients as one tensor (``is_grads_batched=True``) have no numbers that a loop or a tape could take."""
    for grad in gradients:
        if grad is not None and any(map(torch._C._dispatch_keys(grad).has, _BATCHED)):
            raise RuntimeError(
                "a step of a layer with delays has no rule for several gradients at once (is_grads_batched=True, "
                "torch.autograd.functional.jacobian(vectorize=True), torch.func.vmap): ask for one after the other "
                "(vectorize=False), feed whole sequences, or set SNN_DELAY_PLUGINS_METHOD=torch in the environment for the "
                "plain PyTorch form"
            )


def refuse_second_derivatives() -> None:
    """Backward passes that build a graph of their own (``create_graph=True``) would get a constant here."""
    if torch.is_grad_enabled():
        raise NotImplementedError(
            "a step of a layer with delays has no second derivative (create_graph=True): set "
            "SNN_DELAY_PLUGINS_METHOD=torch in the environment for the plain PyTorch form, which has"
        )
