r"""Layers with delays one time step at a time on the CPU, with gradients: the compiled form of a step.

Between two steps everything that matters is linear. Forwards, the spikes of a step add their taps to the currents to
come; backwards, a spike meets the gradients of the currents that it causes later. A :class:`Line` is this bound to the
values that the synapses have: as long as neither these nor the history are changed from outside, a step costs a visit of
its spikes to their synapses, and keeps for the backward pass nothing but its spikes.

The graph: all steps of a line hang on each other by a token, so that the backward pass visits them from the last to the
first. The gradient of the token carries a :class:`Tape`, which belongs to one backward pass: the gradients of the steps
after this one, and sums of the gradients of taps and bias, which the line's first node hands to autograd. A token has one
consumer. Who goes on from an older state than the last (branches, snapshots) begins a new line from its history, which
is an ordinary differentiable tensor.

Shapes: spikes ``[N, in]``, history ``[H, N, in]`` newest first, current ``[N, out]``, taps ``[synapses, width]``.
"""
from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from . import delay_line_numba as loops
from .threads import over_ranges

__all__ = ["Line", "Synapses", "state_of", "step"]

_WIDE = 6  # taps from which whole windows pay as products of matrices
_DENSE = 0.2  # ... of the inputs of a step, where the share that is not zero is above this
_FOR_THREADS = 200_000  # additions from which a step is split among threads


class Synapses:
    """A window of taps per synapse, ordered by sender.

    :param taps: ``[synapses, width]``, differentiable. :param lags: int32, of the first tap of each. :param starts: int64
        ``[in + 1]``: where the synapses of a sender begin. :param targets: int32.
    """

    def __init__(self, taps: Tensor, lags: Tensor, starts: Tensor, targets: Tensor, out_features: int) -> None:
        self.taps = taps
        self.tables = tuple(x.detach().contiguous().numpy() for x in (starts, targets, lags))
        self.weights = taps.detach().contiguous().numpy()
        self.senders, self.receivers = starts.numel() - 1, out_features
        lag = self.tables[2]
        self.width = taps.shape[1]
        self.reach = (int(lag.max()) if lag.size else 0) + self.width
        self.room = max(8, self.reach // 4)  # steps between two moves of what is on its way
        whole = lag.size == self.senders * out_features and self.width >= _WIDE and not lag.any()
        self.matrix = torch.from_numpy(self.weights).view(self.senders, -1) if whole else None

    def ranges(self, task, size: int, work: int) -> None:
        if work * self.width * self.receivers > _FOR_THREADS:
            over_ranges(task, size)
        else:
            task(0, size)

    def dense(self, events: int, samples: int) -> bool:
        return self.matrix is not None and events > _DENSE * samples * self.senders


class Events(NamedTuple):
    """What is not zero in ``[N, in]``; sample n's at ``offsets[n] ... offsets[n + 1]``."""

    units: np.ndarray
    values: np.ndarray
    offsets: np.ndarray

    def dense(self, senders: int) -> np.ndarray:
        whole = np.zeros((self.offsets.size - 1, senders), self.values.dtype)
        whole[np.repeat(np.arange(whole.shape[0]), np.diff(self.offsets)), self.units] = self.values
        return whole


def events_of(spikes: np.ndarray) -> Events:
    samples = spikes.shape[0]
    units, values = np.empty(spikes.size + 1, np.int32), np.empty(spikes.size + 1, spikes.dtype)
    offsets = np.empty(samples + 1, np.int64)
    found = loops.find(spikes, units, values, offsets)
    return Events(units[:found], values[:found], offsets)


class Line:
    """Currents on their way, of one sequence of steps over the same synapses.

    :param key: what the synapses were computed from; another key, another line. :param held: the tensors named there.
    """

    def __init__(self, synapses: Synapses, bias: Tensor | None, history: Tensor, key: tuple, held: tuple) -> None:
        self.synapses, self.bias, self.key, self.held = synapses, bias, key, held
        dtype = synapses.weights.dtype
        self.length, samples = history.shape[0], history.shape[1]
        self.pending = np.zeros((samples, synapses.receivers, synapses.reach + synapses.room), dtype)
        self.offset = np.zeros(synapses.receivers, dtype) if bias is None else bias.detach().to(synapses.taps.dtype).numpy()
        self.now = self.clock = 0
        self.spent = self.to_spikes = False
        self.raw = history.dtype in (torch.float32, torch.float64)
        if self.raw:
            self.page = np.zeros((2 * self.length, *history.shape[1:]), dtype if history.dtype == synapses.taps.dtype
                                 else np.float32)
            self.row = self.length
            self.page[self.row :] = history.detach().numpy()
        for past in reversed(history.detach().unbind()[: synapses.reach - 1]):
            self.arrive(past.to(synapses.taps.dtype).contiguous().numpy())

    def arrive(self, spikes: np.ndarray) -> tuple[Tensor, Events]:
        synapses, events = self.synapses, events_of(spikes)
        if self.now == synapses.room:
            loops.forwards(self.pending, self.now)
            self.now = 0
        samples, found = spikes.shape[0], events.units.size
        if synapses.dense(found, samples):
            due = torch.from_numpy(self.pending)[:, :, self.now : self.now + synapses.width]
            due += (torch.from_numpy(spikes) @ synapses.matrix).view(due.shape)
        elif found:
            synapses.ranges(lambda first, last: loops.arrive(
                first, last, *events, *synapses.tables, synapses.weights, self.pending, self.now
            ), samples, found)
        current = np.empty((samples, synapses.receivers), self.pending.dtype)
        loops.take(self.pending, self.now, self.offset, current)
        self.now += 1
        return torch.from_numpy(current), events

    def remember(self, spikes: Tensor, history: Tensor) -> Tensor:
        """The next history. It is a view of a page that only grows: nobody sees an older one change."""
        if not self.raw:
            return torch.cat([spikes.detach()[None], history.detach()[:-1]])
        if self.row == 0:
            page = np.empty_like(self.page)
            page[self.length + 1 :] = self.page[: self.length - 1]
            self.page, self.row = page, self.length + 1
        self.row -= 1
        self.page[self.row] = spikes.detach().numpy()
        return torch.from_numpy(self.page[self.row : self.row + self.length])

    def advance(self, spikes: Tensor, history: Tensor) -> tuple[Tensor, Tensor, Events]:
        current, events = self.arrive(spikes.detach().to(self.synapses.taps.dtype).contiguous().numpy())
        self.clock += 1
        return current.to(spikes.dtype), self.remember(spikes, history), events


class State(NamedTuple):
    """What is known of a history that a step returned beside its numbers."""

    line: Line
    clock: int
    token: Tensor
    version: int


_states: dict[int, tuple[weakref.ref, State]] = {}
"""By the identity of the history. A copy has none, and begins a line of its own."""


def state_of(history: Tensor | None, key: tuple) -> State | None:
    """The state to go on from; None where a new line has to begin."""
    reference, state = _states.get(id(history), _NONE)
    if state is None or reference() is not history:
        return None
    line = state.line
    if line.clock != state.clock or line.spent or line.key != key or _version(history) != state.version:
        return None
    return state


_NONE = (None, None)


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
    line = state.line
    if torch.is_grad_enabled() and (state.token.requires_grad or spikes.requires_grad or history.requires_grad):
        current, history, token = _Step.apply(spikes, history, state.token, line)
    else:
        current, history, _ = line.advance(spikes, history)
        token = state.token
    _keep(history, State(line, line.clock, token, _version(history)))
    return current, history


# ------------------------------------------------------------------------------------------------ the backward pass


class Tape:
    """What one backward pass has met so far: gradients of later currents, sums for the taps and the bias."""

    def __init__(self, line: Line, samples: int) -> None:
        synapses = self.synapses = line.synapses
        dtype, length = synapses.weights.dtype, synapses.reach + synapses.room
        self.to_taps, self.to_spikes = synapses.taps.requires_grad, line.to_spikes
        whole = synapses.matrix is not None
        self.later = self.lanes = None
        if self.to_taps or whole:
            self.later = np.zeros((samples, synapses.receivers, length), dtype)
        if self.to_spikes and not whole:
            blocks = -(-samples // loops.LANES)
            self.lanes = np.zeros((blocks, synapses.receivers, length, loops.LANES), dtype)
        self.met = np.zeros(synapses.weights.shape) if self.to_taps else None
        self.total = np.zeros(synapses.receivers)
        self.samples, self.now = samples, synapses.room

    def retreat(self, grad: Tensor | None, events: Events, to_spikes: bool) -> Tensor | None:
        """One step towards the past: the gradient of its spikes, ``[N, in]``."""
        synapses = self.synapses
        if self.now == 0:
            if self.later is not None:
                loops.backwards(self.later, synapses.room)
            if self.lanes is not None:
                loops.backwards_lanes(self.lanes, synapses.room)
            self.now = synapses.room
        self.now -= 1
        if grad is None:
            grad = np.zeros((self.samples, synapses.receivers), synapses.weights.dtype)
        else:
            grad = grad.detach().to(synapses.taps.dtype).contiguous().numpy()
        if self.later is not None:
            loops.put(grad, self.now, self.later)
        if self.lanes is not None:
            loops.put_lanes(grad, self.now, self.lanes)
        loops.add(grad, self.total)
        if self.to_taps:
            self._collect(events)
        return self._leave() if to_spikes else None

    def _window(self) -> Tensor:
        rows = torch.from_numpy(self.later)[:, :, self.now : self.now + self.synapses.width]
        return rows.reshape(self.samples, -1)

    def _collect(self, events: Events) -> None:
        synapses, found = self.synapses, events.units.size
        if synapses.dense(found, self.samples):
            spikes = torch.from_numpy(events.dense(synapses.senders))
            self.met += (spikes.mT @ self._window()).view(self.met.shape).numpy()
        elif found:
            synapses.ranges(lambda first, last: loops.collect(
                first, last, *events, *synapses.tables, self.later, self.now, self.met
            ), synapses.senders, found)

    def _leave(self) -> Tensor:
        synapses = self.synapses
        if synapses.matrix is not None:
            return self._window() @ synapses.matrix.mT
        out = np.empty((self.samples, synapses.senders), synapses.weights.dtype)
        synapses.ranges(lambda first, last: loops.leave(
            first, last, *synapses.tables, synapses.weights, self.lanes, self.now, out
        ), self.lanes.shape[0], out.size)
        return torch.from_numpy(out)


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
        line, tape = ctx.line, g_token.tape
        _, history = saved(ctx)
        line.spent = True
        to_history = ctx.needs_input_grad[2]
        g_history = torch.zeros_like(history) if to_history else None
        if to_history or history.count_nonzero():
            for age, past in enumerate(history.detach().unbind()[: line.synapses.reach - 1]):
                events = events_of(past.to(line.synapses.taps.dtype).contiguous().numpy())
                grad = tape.retreat(None, events, to_history)
                if to_history:
                    g_history[age] = grad
        g_taps = torch.from_numpy(tape.met).to(line.synapses.taps.dtype) if ctx.needs_input_grad[0] else None
        g_bias = torch.from_numpy(tape.total).to(line.bias.dtype) if ctx.needs_input_grad[1] else None
        return *once(g_taps, g_bias, g_history), None


class _Step(Function):
    """(spikes, history, token) -> (current, the next history, the next token)."""

    @staticmethod
    def forward(ctx, spikes, history, token, line):
        line.to_spikes |= spikes.requires_grad or history.requires_grad
        current, later, events = line.advance(spikes, history)
        ctx.line, ctx.dtype = line, spikes.dtype
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*(torch.from_numpy(x.copy()) for x in events))
        if not (spikes.requires_grad or history.requires_grad):
            ctx.mark_non_differentiable(later)
        return current, later, token.new_empty(1)

    @staticmethod
    def backward(ctx, g_current, g_history, g_token):
        line = ctx.line
        events = Events(*(x.numpy() for x in saved(ctx)))
        line.spent = True
        if g_token is None:
            tape = Tape(line, events.offsets.size - 1)
            g_token = torch.zeros(1, dtype=line.synapses.taps.dtype)
            g_token.tape = tape
        to_spikes, to_history, _, _ = ctx.needs_input_grad
        g_spikes = g_token.tape.retreat(g_current, events, to_spikes)
        g_spikes = g_spikes.to(ctx.dtype) if to_spikes else None
        g_before = None
        if g_history is not None:  # somebody read the history beside the line
            if to_spikes:
                g_spikes = g_spikes + g_history[0]
            if to_history:
                g_before = torch.cat([g_history[1:], torch.zeros_like(g_history[:1])])
        g_spikes, g_before = once(g_spikes, g_before)
        return g_spikes, g_before, g_token, None


def saved(ctx) -> tuple[Tensor, ...]:
    try:
        return ctx.saved_tensors
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        raise RuntimeError(
            "a second backward pass reached steps of a layer with delays whose graph has been freed: its spikes of an "
            "earlier sequence are still on their way. Between sequences call reset (snn_delay_plugins.snntorch.reset(net), "
            "layer.reset_delay() or spikingjelly's functional.reset_net(net)); between windows of one sequence detach "
            "(snn_delay_plugins.snntorch.detach(net), layer.detach_hidden() or functional.detach_net(net)); or call "
            "backward(retain_graph=True)"
        ) from error


class _Once(Function):
    @staticmethod
    def forward(ctx, grad, mark):
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx, *grad):
        raise NotImplementedError(
            "the compiled form of a step of a layer with delays has no second derivative: set "
            "SNN_DELAY_PLUGINS_METHOD=torch in the environment for the plain PyTorch form, which has"
        )


def once(*gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients that refuse to be differentiated again."""
    if not torch.is_grad_enabled():
        return gradients
    mark = torch.zeros((), requires_grad=True)
    return tuple(None if g is None else _Once.apply(g, mark) for g in gradients)
