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
from collections.abc import Callable
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
    """A window of taps per synapse, ordered by sender and receiver.

    :param taps: ``[synapses, width]``, differentiable. :param lags: of the first tap of each. :param starts: int64
        ``[in + 1]``: where the synapses of a sender begin. :param targets: their receivers.
    """

    def __init__(self, taps: Tensor, lags: Tensor, starts: Tensor, targets: Tensor, out_features: int) -> None:
        self.taps, self.dtype = taps, taps.dtype
        self.weights = taps.detach().contiguous().numpy()
        self.senders, self.receivers, self.width = starts.numel() - 1, out_features, taps.shape[1]
        self.reach = (int(lags.max()) if lags.numel() else 0) + self.width
        self.room = max(8, self.reach // 3)  # steps between two moves of what is on its way
        self.length = self.reach + self.room
        places = (targets * self.length + lags).contiguous().numpy()
        self.tables = starts.contiguous().numpy(), places, self.weights
        full = lags.numel() == self.senders * out_features and self.width >= _WIDE and not lags.any()
        self.matrix = self.weights.reshape(self.senders, -1) if full else None

    def ranges(self, loop: Callable, arguments: tuple, size: int, visits: int) -> None:
        """Over threads, where that pays for ``visits`` of all synapses of a sender."""
        if visits * self.width * self.receivers > _FOR_THREADS:
            over_ranges(lambda first, last: loop(first, last, *arguments), size)
        else:
            loop(0, size, *arguments)

    def dense(self, events: int, samples: int) -> bool:
        return self.matrix is not None and events > _DENSE * samples * self.senders


def entries_of(spikes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is not zero in ``[N, in]``: where (n * in + j), how much, and where each sample begins in these."""
    entries, values = np.empty(spikes.size + 1, np.int32), np.empty(spikes.size + 1, spikes.dtype)
    offsets = np.empty(spikes.shape[0] + 1, np.int64)
    found = loops.find(spikes, entries, values, offsets)
    return entries[:found], values[:found], offsets


class Line:
    """Currents on their way, of one sequence of steps over the same synapses.

    :param key: what the synapses were computed from; another key, another line. :param held: the tensors named there.
    """

    def __init__(self, synapses: Synapses, bias: Tensor | None, history: Tensor, key: tuple, held: tuple) -> None:
        self.synapses, self.bias, self.key, self.held = synapses, bias, key, held
        numbers = synapses.weights.dtype
        self.length, self.samples, _ = self.shape = tuple(history.shape)
        self.pending = np.zeros((self.samples, synapses.receivers, synapses.length), numbers)
        self.offset = np.zeros(synapses.receivers, numbers)
        if bias is not None:
            self.offset[:] = bias.detach().to(synapses.dtype).numpy()
        self.now = self.clock = 0
        self.spent = self.to_spikes = False
        self.dtype = history.dtype
        self.page = None
        if self.dtype in _NUMBERS:  # numpy has them
            self.page, self.row = np.zeros((2 * self.length, *history.shape[1:]), _NUMBERS[self.dtype]), self.length
            self.page[self.row :] = history.detach().numpy()
        for past in reversed(history.detach().unbind()[: synapses.reach - 1]):
            self.arrive(self.numbers(past))

    def numbers(self, spikes: Tensor) -> np.ndarray:
        spikes = spikes.detach()
        if spikes.dtype != self.synapses.dtype or not spikes.is_contiguous():
            spikes = spikes.to(self.synapses.dtype).contiguous()
        return spikes.numpy()

    def arrive(self, spikes: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Spikes leave, and what is due is taken: the currents, and which spikes these were."""
        synapses, (entries, values, offsets) = self.synapses, entries_of(spikes)
        if self.now == synapses.room:
            loops.forwards(self.pending, self.now)
            self.now = 0
        found, matrix = entries.size, synapses.matrix
        current = np.empty((self.samples, synapses.receivers), self.pending.dtype)
        if synapses.dense(found, self.samples):
            due = torch.from_numpy(self.pending)[:, :, self.now : self.now + synapses.width]
            due += (torch.from_numpy(spikes) @ torch.from_numpy(matrix)).view(due.shape)
            offsets = np.zeros_like(offsets)
        loop, tables = (loops.arrive, synapses.tables) if matrix is None else (loops.arrive_whole, (matrix,))
        arguments = (entries, values, offsets, *tables, self.pending, self.now, self.offset, current)
        synapses.ranges(loop, arguments, self.samples, found)
        self.now += 1
        return torch.from_numpy(current), entries, values

    def advance(self, spikes: Tensor, history: Tensor) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
        """The currents of a step, the next history, and which spikes were not zero."""
        numbers = self.numbers(spikes)
        current, *entries = self.arrive(numbers)
        self.clock += 1
        if self.page is None:
            return current.to(self.dtype), torch.cat([spikes.detach()[None], history.detach()[:-1]]), *entries
        return current if current.dtype == self.dtype else current.to(self.dtype), self.remember(numbers), *entries

    def remember(self, spikes: np.ndarray) -> Tensor:
        """The next history. It is a view of a page that only grows: nobody sees an older one change."""
        if self.row == 0:
            page = np.empty_like(self.page)
            page[self.length + 1 :] = self.page[: self.length - 1]
            self.page, self.row = page, self.length + 1
        self.row -= 1
        self.page[self.row] = spikes
        return torch.from_numpy(self.page[self.row : self.row + self.length])


_NUMBERS = {torch.float32: np.float32, torch.float64: np.float64}


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
    reference, state = _states.get(id(history), _NONE)
    if state is None or reference() is not history:
        return None
    line = state.line
    if line.clock != state.clock or line.spent or line.key != key or _version(history) != state.version:
        return None
    return state if spikes.shape == history.shape[1:] else None


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
        current, history, *_ = line.advance(spikes, history)
        token = state.token
    _keep(history, State(line, line.clock, token, _version(history)))
    return current, history


# ------------------------------------------------------------------------------------------------ the backward pass


class Tape:
    """What one backward pass has met so far: gradients of later currents, sums for the taps and the bias."""

    def __init__(self, line: Line) -> None:
        synapses = self.synapses = line.synapses
        numbers, samples = synapses.weights.dtype, line.samples
        self.samples, self.now = samples, synapses.room
        self.to_taps = synapses.taps.requires_grad
        matrix, lanes, narrow = synapses.matrix is not None, loops.LANES, synapses.width <= 2
        blocks = -(-samples // lanes) if narrow or line.to_spikes and not matrix else 0
        later = matrix or (self.to_taps and not narrow)
        self.later = np.zeros((later * samples, synapses.receivers, synapses.length), numbers)
        self.lanes = np.zeros((blocks, synapses.receivers, synapses.length, lanes), numbers)
        # whole windows as the products of matrices sum them, few taps per synapse in double precision
        self.met = np.zeros(synapses.weights.shape, numbers if matrix else np.float64) if self.to_taps else None
        self.total = np.zeros(synapses.receivers)
        self.silence = np.zeros((samples, synapses.receivers), numbers)

    def retreat(self, grad: Tensor | None, entries: np.ndarray, values: np.ndarray, to_spikes: bool) -> Tensor | None:
        """One step towards the past, with the gradient of its currents: that of its spikes, ``[N, in]``."""
        synapses = self.synapses
        if self.now == 0:
            loops.backwards(self.later, self.lanes, synapses.room)
            self.now = synapses.room
        self.now -= 1
        grad = self.silence if grad is None else grad.detach().to(synapses.dtype).contiguous().numpy()
        loops.put(grad, self.now, self.later, self.lanes, self.total)
        if self.to_taps and entries.size:
            self._collect(entries, values)
        return self._leave() if to_spikes else None

    def _window(self) -> Tensor:
        rows = torch.from_numpy(self.later)[:, :, self.now : self.now + self.synapses.width]
        return rows.reshape(self.samples, -1)

    def _collect(self, entries: np.ndarray, values: np.ndarray) -> None:
        synapses, whole = self.synapses, None if self.synapses.matrix is None else self.met.reshape(self.synapses.senders, -1)
        if synapses.dense(entries.size, self.samples):
            spikes = np.zeros(self.samples * synapses.senders, values.dtype)
            spikes[entries] = values
            torch.from_numpy(whole).addmm_(torch.from_numpy(spikes).view(self.samples, -1).mT, self._window())
        elif whole is not None:
            arguments = entries, values, self._window().numpy(), whole
            synapses.ranges(loops.collect_whole, arguments, synapses.senders, entries.size)
        else:
            loop, later = (loops.collect, self.later) if self.later.size else (loops.collect_lanes, self.lanes)
            arguments = entries, values, *synapses.tables[:2], later, self.now, self.met
            synapses.ranges(loop, arguments, synapses.senders, entries.size)

    def _leave(self) -> Tensor:
        synapses = self.synapses
        if synapses.matrix is not None:
            return self._window() @ torch.from_numpy(synapses.matrix).mT
        out = np.empty((self.samples, synapses.senders), synapses.weights.dtype)
        synapses.ranges(loops.leave, (*synapses.tables, self.lanes, self.now, out), self.lanes.shape[0], out.size)
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
                entries, values, _ = entries_of(line.numbers(past))
                grad = tape.retreat(None, entries, values, to_history)
                if to_history:
                    g_history[age] = grad
        g_taps = torch.from_numpy(tape.met).to(line.synapses.dtype) if ctx.needs_input_grad[0] else None
        g_bias = torch.from_numpy(tape.total).to(line.bias.dtype) if ctx.needs_input_grad[1] else None
        return *once(g_taps, g_bias, g_history), None


class _Step(Function):
    """(spikes, history, token) -> (current, the next history, the next token)."""

    @staticmethod
    def forward(ctx, spikes, history, token, line):
        graph = spikes.requires_grad or history.requires_grad
        line.to_spikes |= graph
        current, later, entries, values = line.advance(spikes, history)
        ctx.line = line
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(torch.from_numpy(entries.copy()), torch.from_numpy(values.copy()))
        if not graph:
            ctx.mark_non_differentiable(later)
        return current, later, torch.empty(1, dtype=token.dtype)

    @staticmethod
    def backward(ctx, g_current, g_history, g_token):
        line, (entries, values) = ctx.line, saved(ctx)
        line.spent = True
        if g_token is None:
            g_token = torch.zeros(1, dtype=line.synapses.dtype)
            g_token.tape = Tape(line)
        to_spikes, to_history, _, _ = ctx.needs_input_grad
        g_spikes = g_token.tape.retreat(g_current, entries.numpy(), values.numpy(), to_spikes)
        g_spikes = g_spikes.to(line.dtype) if to_spikes else None
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
