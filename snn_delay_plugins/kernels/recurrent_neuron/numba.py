r"""Linear neurons with delayed recurrent synapses on the CPU, forward and backward.

Between two steps this is :mod:`..linear_neuron.numba`, whose functions of one step these loops run. What the neurons say
to each other is on its way in a line of pending currents, one row a step: a spike of time t adds its taps to the rows
t + 1 + lag, and the row of a step is read when its time has come. Rows lie block of receivers by block, so that what
a spike reaches of a block stays in the cache however long the delays are.

Backward, the line holds the gradients of the currents, filled from its end. A neuron collects what its spike would have
met,

.. math:: \bar s_j[t] \mathrel{+}= \sum_i \sum_m K_{ij}[m]\, \bar I_i[t + 1 + \ell_{ij} + m],

where its surrogate is not zero, since the sum has an effect there alone. The gradients of the taps are what spikes meet,
summed over samples in double precision, block of receivers by block.

A sample never sees another one, and blocks share no synapse: results do not depend on the number of threads. Of the
states, one step of so many is kept; those between two of them are computed anew from the currents.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..compiled import njit
from ..delayed_linear.numba import events_of
from ..linear_neuron.numba import _ROW, _W, _adjoint_of, _advance_of, _arrays, _fires_of, _Rows, _scalar
from ..linear_neuron.structure import Structure
from ..threads import over_ranges

_BLOCK = 32  # receivers whose rows of the line lie side by side
_MANY = 64  # synapses per sender from which there are several blocks
_PART = 32  # steps that backward takes at once where all states were kept


class _Synapses(NamedTuple):
    """Synapses ordered by block of receivers, then by sender."""

    starts: np.ndarray
    """``[blocks, F + 1]``: those of sender j in block b are ``starts[b, j] ... starts[b, j + 1]``."""
    place: np.ndarray
    """Of each, where its first tap lands, from the beginning of the row after the spike's."""
    taps: np.ndarray
    """``[width, synapses]``."""
    block: int
    order: np.ndarray
    """Which of the given synapses each is."""


@lru_cache(maxsize=8)
def _all_to_all(features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    receivers, senders = np.divmod(np.arange(features * features), features)
    return _ordered(features, receivers, senders)


def _ordered(features: int, receivers: np.ndarray, senders: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Starts, order, place within a row, and the size of the blocks."""
    block = _BLOCK if receivers.size >= _MANY * features else features
    blocks = -(-features // block)
    key = receivers // block * features + senders
    order = np.argsort(key, kind="stable")
    bounds = np.arange(blocks)[:, None] * features + np.arange(features + 1)
    return np.searchsorted(key[order], bounds), order, (receivers % block)[order], block


def _synapses(taps: Tensor, lags: Tensor, ends: Tensor | None, features: int, longest: int) -> _Synapses:
    """:param longest: the lag after which nothing of a sequence is left."""
    if ends is None:
        starts, order, column, block = _all_to_all(features)
    else:
        starts, order, column, block = _ordered(features, *ends.numpy())
    place = np.minimum(lags.detach().numpy()[order], longest) * block + column
    if not place.size or place.max() < 1 << 31:
        place = place.astype(np.int32)
    return _Synapses(starts, place, np.ascontiguousarray(taps.detach().numpy()[:, order]), block, order)


@njit(inline="always")
def _arrive(line, row, room, block, j, value, starts, place, taps):
    """A spike of neuron j, fired in the step of the row before ``row``."""
    for b in range(starts.shape[0]):
        first, last = starts[b, j], starts[b, j + 1]
        for m in range(taps.shape[0]):
            at = (b * room + row + m) * block
            for e in range(first, last):
                line[np.uint64(at + place[e])] += value * taps[m, e]


@njit(nogil=True, fastmath={"contract", "reassoc"})
def _met(line, row, room, block, j, starts, place, taps):
    """What a spike of neuron j would meet."""
    total = line.dtype.type(0)
    for b in range(starts.shape[0]):
        first, last = starts[b, j], starts[b, j + 1]
        for m in range(taps.shape[0]):
            at = (b * room + row + m) * block
            for e in range(first, last):
                total += line[np.uint64(at + place[e])] * taps[m, e]
    return total


def _chunks_of(features: int) -> int:
    return -(-features // _W)


@cache
def _forward_kernel(code: int):
    structure = Structure.of(code)
    rows = _Rows(("x0", "x1", "s", "i", *structure.names))
    X0, X1, S, I = rows("x0", "x1", "s", "i")
    ROWS, K, FIRST = rows.size, len(structure.names), np.int64(4)
    two = structure.two
    advance, _ = _advance_of(structure, rows)

    @njit(cache=True, nogil=True)
    def kernel(
        begin, end, current, x0_0, x1_0, s_0, coefficients, past, starts, place, taps, room, block, spikes, total, x0_seq,
        x1_seq, x0_T, x1_T, s_T, every,
    ):  # fmt: skip
        steps, _, features = current.shape
        before = past.shape[0]
        blocks = starts.shape[0]
        one = current.dtype.type(1)
        zero = current.dtype.type(0)
        chunks = -(-features // _W)
        buffer = np.zeros(chunks * ROWS, current.dtype)
        for c in range(chunks):
            r = buffer[c * ROWS : (c + 1) * ROWS]
            for k in range(K):
                for m in range(min(_W, features - c * _W)):
                    r[(FIRST + k) * _ROW + m] = coefficients[k, c * _W + m]
        line = np.empty(blocks * room * block, current.dtype)
        for n in range(begin, end):
            line[:] = 0
            for c in range(chunks):
                r = buffer[c * ROWS : (c + 1) * ROWS]
                for m in range(min(_W, features - c * _W)):
                    r[X0 + m], r[S + m] = x0_0[n, c * _W + m], s_0[n, c * _W + m]
                    if two:
                        r[X1 + m] = x1_0[n, c * _W + m]
            for h in range(before):
                for j in range(features):
                    if past[h, n, j] != 0:
                        _arrive(line, h + 1, room, block, j, past[h, n, j], starts, place, taps)
            for t in range(steps):
                row = before + t
                x_t, i_t = current[t, n], total[t, n]
                for b in range(blocks):
                    at = (b * room + row) * block
                    arriving = line[at : at + block]
                    for m in range(min(block, features - b * block)):
                        i_t[b * block + m] = x_t[b * block + m] + arriving[m]
                fired = spikes[t, n]
                for c in range(chunks):
                    width = min(_W, features - c * _W)
                    r = buffer[c * ROWS : (c + 1) * ROWS]
                    i_c = i_t[c * _W : c * _W + width]
                    for m in range(width):
                        r[X0 + m], r[X1 + m], r[S + m] = advance(
                            r, m, r[X0 + m], r[X1 + m] if two else zero, r[S + m], i_c[m], one, zero
                        )
                    s_c = fired[c * _W : c * _W + width]
                    for m in range(width):
                        s_c[m] = r[S + m]
                    if (t + 1) % every == 0 and t // every < x0_seq.shape[0]:
                        kept = x0_seq[t // every, n, c * _W : c * _W + width]
                        for m in range(width):
                            kept[m] = r[X0 + m]
                        if two:
                            kept = x1_seq[t // every, n, c * _W : c * _W + width]
                            for m in range(width):
                                kept[m] = r[X1 + m]
                if t + 1 < steps:
                    for j in range(features):
                        if fired[j] != 0:
                            _arrive(line, row + 1, room, block, j, fired[j], starts, place, taps)
            for c in range(chunks):
                r = buffer[c * ROWS : (c + 1) * ROWS]
                for m in range(min(_W, features - c * _W)):
                    x0_T[n, c * _W + m], s_T[n, c * _W + m] = r[X0 + m], r[S + m]
                    if two:
                        x1_T[n, c * _W + m] = r[X1 + m]

    return kernel


@cache
def _backward_kernel(code: int, boxcar: bool):
    structure = Structure.of(code)
    names = structure.names
    rows = _Rows(("d0", "d1", "ds", "s", "di", "g", *names, *(f"g_{name}" for name in names)))
    D0, D1, DS, S, DI, G = rows("d0", "d1", "ds", "s", "di", "g")
    ROWS, K, FIRST, GRADIENTS = rows.size, len(names), np.int64(6), np.int64(6 + len(names))
    two = structure.two
    (advance, _), above = _advance_of(structure, rows), _fires_of(structure, rows)
    adjoint = _adjoint_of(structure, rows, boxcar)

    @njit(cache=True, nogil=True)
    def kernel(
        begin, end, width, height, through_j, through_r0, through_r1, traced, every, wants_past, g_s, g_x0, g_x1, g_x0T,
        g_x1T, g_sT, phi, total, x0_seq, x1_seq, x0_0, x1_0, s_0, coefficients, before, starts, place, taps, room, block,
        g_current, g_x0_0, g_x1_0, g_s_0, g_coefficients, g_past,
    ):  # fmt: skip
        steps, _, features = total.shape
        blocks = starts.shape[0]
        one = total.dtype.type(1)
        zero = total.dtype.type(0)
        chunks = -(-features // _W)
        buffer = np.empty(chunks * ROWS, total.dtype)
        line = np.empty(blocks * room * block, total.dtype)
        anew = every > 1
        part_length = every if anew else _PART
        x0s = np.zeros((min(part_length, steps) + 1, features), total.dtype)  # before and behind every step of a part
        x1s = np.zeros((min(part_length, steps) + 1, features), total.dtype)
        for n in range(begin, end):
            line[:] = 0
            buffer[:] = 0
            for c in range(chunks):
                r = buffer[c * ROWS : (c + 1) * ROWS]
                for m in range(min(_W, features - c * _W)):
                    for k in range(K):
                        r[(FIRST + k) * _ROW + m] = coefficients[k, c * _W + m]
                    r[D0 + m], r[DS + m] = g_x0T[n, c * _W + m], g_sT[n, c * _W + m]
                    if two:
                        r[D1 + m] = g_x1T[n, c * _W + m]
            for part in range((steps - 1) // part_length, -1, -1):
                start = part * part_length
                stop = min(start + part_length, steps)
                for k in range(1 if anew else stop - start + 1):  # the states that were kept
                    kept = start + k - 1
                    for m in range(features):
                        x0s[k, m] = x0_0[n, m] if kept < 0 else x0_seq[part - 1 if anew else kept, n, m]
                    if two:
                        for m in range(features):
                            x1s[k, m] = x1_0[n, m] if kept < 0 else x1_seq[part - 1 if anew else kept, n, m]
                if anew:
                    for c in range(chunks):
                        o, w = c * _W, min(_W, features - c * _W)
                        r = buffer[c * ROWS : (c + 1) * ROWS]
                        for m in range(w):
                            if part == 0:
                                r[S + m] = s_0[n, o + m]
                            else:
                                r[S + m] = one if above(r, m, x0s[0, o + m], x1s[0, o + m]) >= zero else zero
                        for t in range(start, stop):
                            i_t = total[t, n, o : o + w]
                            x0, x1 = x0s[t - start, o : o + w], x1s[t - start, o : o + w]
                            y0, y1 = x0s[t - start + 1, o : o + w], x1s[t - start + 1, o : o + w]
                            for m in range(w):
                                y0[m], y1[m], r[S + m] = advance(r, m, x0[m], x1[m], r[S + m], i_t[m], one, zero)
                for t in range(stop - 1, start - 1, -1):
                    row = before + t
                    for c in range(chunks):
                        o, w = c * _W, min(_W, features - c * _W)
                        r = buffer[c * ROWS : (c + 1) * ROWS]
                        x0, x1 = x0s[t - start, o : o + w], x1s[t - start, o : o + w]
                        y0, y1 = x0s[t - start + 1, o : o + w], x1s[t - start + 1, o : o + w]
                        for m in range(w):
                            r[G + m] = g_s[t, n, o + m]
                            if boxcar:
                                reached = abs(above(r, m, y0[m], y1[m])) <= width
                            else:
                                reached = phi[t, n, o + m] != 0
                            if reached and t + 1 < steps:
                                r[G + m] += _met(line, row + 1, room, block, o + m, starts, place, taps)
                        if traced:
                            for m in range(w):
                                r[D0 + m] += g_x0[t, n, o + m]
                                if two:
                                    r[D1 + m] += g_x1[t, n, o + m]
                        for m in range(w):
                            if t == 0:
                                r[S + m] = s_0[n, o + m]
                            else:
                                r[S + m] = one if above(r, m, x0[m], x1[m]) >= zero else zero
                        i_t = total[t, n, o : o + w]
                        phi_t = i_t if boxcar else phi[t, n, o : o + w]
                        for m in range(w):
                            r[D0 + m], d1, r[DS + m], r[DI + m] = adjoint(
                                r, m, r[D0 + m], r[D1 + m] if two else zero, r[DS + m], y0[m], y1[m], x0[m], x1[m], r[S + m],
                                i_t[m], r[G + m], phi_t[m], width, height, through_j, through_r0, through_r1, one, zero,
                            )  # fmt: skip
                            if two:
                                r[D1 + m] = d1
                        for m in range(w):
                            g_current[t, n, o + m] = r[DI + m]
                    d_i = g_current[t, n]
                    for b in range(blocks):
                        at = (b * room + row) * block
                        met = line[at : at + block]
                        for m in range(min(block, features - b * block)):
                            met[m] = d_i[b * block + m]
            if wants_past:
                for h in range(before):
                    for j in range(features):
                        g_past[h, n, j] = _met(line, h + 1, room, block, j, starts, place, taps)
            for c in range(chunks):
                o, w = c * _W, min(_W, features - c * _W)
                r = buffer[c * ROWS : (c + 1) * ROWS]
                for m in range(w):
                    g_x0_0[n, o + m], g_s_0[n, o + m] = r[D0 + m], r[DS + m]
                    if two:
                        g_x1_0[n, o + m] = r[D1 + m]
                    for k in range(K):  # rows of q stay zero: they are values alone
                        g_coefficients[k, n, o + m] = r[(GRADIENTS + k) * _ROW + m]

    return kernel


@njit(cache=True, nogil=True)
def _synapses_met(begin, end, rows, units, values, offsets, starts, place, room, block, before, g_current, met):
    """met[m, e]: what spikes met at tap m of synapse e, of the blocks ``begin ... end``."""
    steps, samples, features = g_current.shape
    line = np.zeros(room * block, g_current.dtype)
    for b in range(begin, end):
        width = min(block, features - b * block)
        for n in range(samples):
            if offsets[n] == offsets[n + 1]:
                continue
            for t in range(steps):
                at = (before + t) * block
                row, here = g_current[t, n, b * block : b * block + width], line[at : at + width]
                for m in range(width):
                    here[m] = row[m]
            for k in range(offsets[n], offsets[n + 1]):
                j, value = units[k], values[k]
                for m in range(met.shape[0]):
                    at = (np.int64(rows[k]) + 1 + m) * block
                    for e in range(starts[b, j], starts[b, j + 1]):
                        met[m, e] += value * line[np.uint64(at + place[e])]


def _room(before: int, steps: int, synapses: _Synapses) -> int:
    """Rows of the line: those of the past and of the sequence, and what the last spike reaches."""
    longest = int(synapses.place.max()) // synapses.block if synapses.place.size else 0
    return before + steps + longest + synapses.taps.shape[0] + 1


def forward(
    current: Tensor, state: tuple[Tensor, ...], coefficients: Tensor, taps: Tensor, lags: Tensor, ends: Tensor | None,
    past: Tensor, code: int, every: int = 1,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Run the neurons.

    :param current: ``[T, N, F]``; :param state: (x0, x1, s), each ``[N, F]``; :param coefficients: ``[K, F]``.
    :param taps: ``[width, synapses]``; :param lags: of the first taps; :param ends: receivers and senders ``[2, synapses]``,
        None: all to all. :param past: the spikes before the first step, oldest first, ``[H, N, F]``.
    :param code: of the :class:`~..linear_neuron.structure.Structure`.
    :param every: 1: the whole traces are returned; more: every so many-th step of them, but for the last.
    :returns: spikes, all that the neurons received, each ``[T, N, F]``, traces of x0 and x1, and the last x0, x1 and s.
    """
    (steps, samples, features), two = current.shape, Structure.of(code).two
    spikes, total = (torch.empty(current.shape, dtype=current.dtype) for _ in range(2))
    x0_seq = spikes.new_empty(steps if every == 1 else (steps - 1) // every, samples, features)
    x1_seq = torch.empty_like(x0_seq) if two else spikes.new_empty(0, 0, 0)
    final = [spikes.new_empty(samples, features) for _ in range(3)]
    if not two:
        final[1] = spikes.new_empty(0, 0)
    synapses = _synapses(taps, lags, ends, features, len(past) + steps)
    arguments = [
        *_arrays(current, *state, coefficients, past), *synapses[:3], _room(len(past), steps, synapses), synapses.block,
        *_arrays(spikes, total, x0_seq, x1_seq, *final), every,
    ]  # fmt: skip
    kernel = _forward_kernel(Structure.of(code).of_forward.code)
    over_ranges(lambda begin, end: kernel(begin, end, *arguments), samples)
    return spikes, total, x0_seq, x1_seq, *final


def backward(
    gradients: tuple[Tensor | None, ...], phi: Tensor | None, boxcar: tuple[float, float], spikes: Tensor, total: Tensor,
    traces: tuple[Tensor, Tensor], state: tuple[Tensor, ...], coefficients: Tensor, taps: Tensor, lags: Tensor,
    ends: Tensor | None, past: Tensor, code: int, every: int, wants_past: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients of :func:`forward`.

    :param gradients: of spikes, traces of x0 and x1, and the last x0, x1 and s, ``None`` where there is none.
    :param phi: derivative of the surrogate at every step, ``[T, N, F]``; ``None``: the boxcar of that half-width and height.
    :param traces: of x0 and x1, as :func:`forward` returned them with this ``every``.
    :returns: gradient of the current, of the initial x0, x1, s, of the coefficients per sample ``[K, N, F]``, of the taps
        and of the past (zeros unless ``wants_past``).
    """
    steps, samples, features = total.shape
    g_s, g_x0, g_x1, *g_final = gradients
    traced = g_x0 is not None or g_x1 is not None
    zeros = total.new_zeros(()).expand_as(total)
    nothing = total.new_empty(0, 0, 0)
    g_x0, g_x1 = (zeros if g is None or not g.numel() else g for g in (g_x0, g_x1)) if traced else (nothing, nothing)
    g_final = [total.new_zeros(samples, features) if g is None or not g.numel() else g for g in g_final]
    out = [
        torch.empty(total.shape, dtype=total.dtype),
        *(torch.empty_like(x, memory_format=torch.contiguous_format) for x in state),
        total.new_empty(len(coefficients), samples, features),
        total.new_zeros(past.shape),
    ]
    structure = Structure.of(code)
    through = [_scalar(total, name not in structure.detached) for name in ("J", "r0", "r1")]  # one kernel for all
    options = [_scalar(total, boxcar[0]), _scalar(total, boxcar[1]), *through, traced, every, wants_past]
    incoming = _arrays(zeros if g_s is None else g_s, g_x0, g_x1, *g_final, nothing if phi is None else phi)
    before = len(past)
    synapses = _synapses(taps, lags, ends, features, before + steps)
    room = _room(before, steps, synapses)
    inputs = [*_arrays(total, *traces, *state, coefficients), before, *synapses[:3], room, synapses.block]
    kernel = _backward_kernel(structure._replace(detached=()).code, phi is None)
    outputs = _arrays(*out)
    over_ranges(lambda begin, end: kernel(begin, end, *options, *incoming, *inputs, *outputs), samples)
    g_current, g_x0_0, g_x1_0, g_s_0, g_coefficients, g_past = out

    events = events_of(torch.cat([past, spikes]).detach().numpy())
    met = np.zeros(synapses.taps.shape)
    arguments = (
        events.times, events.units, events.values, events.offsets, synapses.starts, synapses.place, room, synapses.block,
        before, outputs[0], met,
    )  # fmt: skip
    over_ranges(lambda begin, end: _synapses_met(begin, end, *arguments), len(synapses.starts))
    g_taps = torch.empty(taps.shape, dtype=taps.dtype)
    g_taps.numpy()[:, synapses.order] = met
    return g_current, g_x0_0, g_x1_0, g_s_0, g_coefficients, g_taps, g_past
