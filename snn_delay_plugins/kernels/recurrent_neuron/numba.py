r"""Linear neurons with delayed recurrent synapses on the CPU, forward and backward.

Between two steps this is :mod:`..linear_neuron.numba`, whose functions of one step these loops run, over samples side by
side. What the neurons say to each other takes one of two ways (lists: :mod:`.wiring`). A spike adds its taps to the rows
t + 1 + lag of a line of pending currents, if the lag is short or spikes are few. What is said otherwise is collected at
least a window of steps later, as a window begins, for all of its steps at once,

.. math:: I_i[t + q] \mathrel{+}= \sum_j \sum_m K_{ij}[m]\, s_j[t + q - 1 - \ell_{ij} - m],

in registers, block of senders by block: what is read of a block stays in the cache too, however long the delays are.

Backward, a line holds the gradients of the currents, filled from its end. A neuron collects what its spike would have
met,

.. math:: \bar s_j[t] \mathrel{+}= \sum_i \sum_m K_{ij}[m]\, \bar I_i[t + 1 + \ell_{ij} + m],

a window at once or, where the lag is short or such neurons are few, step by step where its surrogate is not zero: the sum
has an effect there alone. The gradients of the taps follow (:mod:`.tap_gradients_numba`).

A sample never sees another one: results do not depend on the number of threads. Of the states, one step of so many is
kept; those between two of them are computed anew from the currents.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..compiled import njit
from ..lanes_numba import LANES, WINDOW, add_pairs, add_windows, spread_pair
from ..linear_neuron.numba import _ROW, _W, _adjoint_of, _advance_of, _arrays, _fires_of, _Rows, _scalar
from ..linear_neuron.structure import Structure
from ..threads import over_ranges
from .tap_gradients_numba import tap_gradients
from .wiring import FOUR, pairs_of

_FEW = 5  # a window costs as much as spikes in one of so many of its steps
_PART = 32  # steps that backward takes at once where all states were kept


@njit(nogil=True)
def _arrive(line, row, near, spikes, count, senders, room, at):
    """Spikes of the first ``count`` of the senders reach the rows ``row`` + 1 and later of their receivers.

    :param line: ``[F * rows * LANES]``. :param spikes: ``[F * room * LANES]``, these are of the row ``at``.
    """
    flat = near.taps.reshape(-1)
    for b in range(near.starts.shape[0]):
        for a in range(count):
            j = senders[a]
            for e in range(near.starts[b, j], near.starts[b, j + 1]):
                p = (np.int64(near.places[e]) + row) * LANES
                spread_pair(line, p, flat, 2 * e, spikes, (j * room + at) * LANES)


@njit(nogil=True)
def _send(line, row, near, far, spikes, count, senders, room, at):
    """Spikes reach all of their receivers: nothing of them is left to be collected. See :func:`_arrive`."""
    _arrive(line, row, near, spikes, count, senders, room, at)
    _arrive(line, row, far, spikes, count, senders, room, at)
    for a in range(count):
        p = (senders[a] * room + at) * LANES
        spikes[p : p + LANES] = 0


@njit(nogil=True)
def _say(line, row, near, far, spikes, count, senders, room, at, few, said, at_once, left):
    """Spikes of ``row`` reach all of their receivers, or, where there were many in the window before, the near ones alone.
    Returns the spikes of the window until now, whether they are sent at once, the last row to be collected."""
    if row % WINDOW == 0:
        at_once, said = said < few, 0
    if at_once:
        _send(line, row, near, far, spikes, count, senders, room, at)
    else:
        _arrive(line, row, near, spikes, count, senders, room, at)
        left = row
    return said + count, at_once, left


@njit(nogil=True)
def _meet(met, q, line, row, near, count, senders):
    """Add what spikes of ``row`` would meet in a line to row ``q`` of the first ``count`` of the senders.

    :param met: ``[F * WINDOW * LANES]``.
    """
    flat = near.taps.reshape(-1)
    for b in range(near.starts.shape[0]):
        for a in range(count):
            j = senders[a]
            at = (j * WINDOW + q) * LANES
            total = met[at : at + LANES]
            for e in range(near.starts[b, j], near.starts[b, j + 1], FOUR):
                p0, p1 = (np.int64(near.places[e]) + row) * LANES, (np.int64(near.places[e + 1]) + row) * LANES
                p2, p3 = (np.int64(near.places[e + 2]) + row) * LANES, (np.int64(near.places[e + 3]) + row) * LANES
                add_pairs(total, flat, 2 * e, line, p0, p1, p2, p3)


@njit(nogil=True)
def _collect(sums, length, first_row, entries, line, row, longest, wanted):
    """A window of all units that are ``wanted`` at once: add what their entries find in the line of the others.

    :param sums: ``[F * length * LANES]``, of which WINDOW rows of a unit, from the ``first_row`` on, are meant.
    :param row: added to the places. :param longest: the last lag at which there is anything to find.
    """
    flat = entries.taps.reshape(-1)
    for b in range(entries.starts.shape[0]):
        for u in range(wanted.size):
            first, last = entries.starts[b, u], entries.starts[b, u + 1]
            if not wanted[u]:
                continue
            while last > first and entries.lags[last - 1] > longest:
                last -= 1
            if last > first:
                add_windows(sums, u * length + first_row, flat, line, entries.places, first, last, row)


@njit(nogil=True)
def _gather_spikes(spikes, n0, side, side_by_side, room, at, senders):
    """The senders of samples n0, n0 + 1, ... that have a spike in any of them; their spikes go to row ``at``."""
    count = 0
    for j in range(spikes.shape[1]):
        found = False
        for k in range(side):
            side_by_side[(j * room + at) * LANES + k] = spikes[n0 + k, j]
            found |= spikes[n0 + k, j] != 0
        if found:
            senders[count] = j
            count += 1
    return count


@cache
def _forward_kernel(code: int):
    structure = Structure.of(code)
    rows = _Rows(("x0", "x1", "s", *structure.names))
    X0, X1, S = rows("x0", "x1", "s")
    ROWS, K, FIRST = rows.size, len(structure.names), np.int64(3)
    two = structure.two
    advance, _ = _advance_of(structure, rows)

    @njit(cache=True, nogil=True)
    def kernel(
        begin, end, current, x0_0, x1_0, s_0, coefficients, past, near, far, length, windows, room, spikes, total, x0_seq,
        x1_seq, x0_T, x1_T, s_T, every,
    ):  # fmt: skip
        steps, samples, features = current.shape
        before = past.shape[0]
        one = current.dtype.type(1)
        zero = current.dtype.type(0)
        chunks = -(-features // _W)
        buffer = np.zeros(LANES * chunks * ROWS, current.dtype)
        for c in range(LANES * chunks):
            o = c % chunks * _W
            r = buffer[c * ROWS : (c + 1) * ROWS]
            for k in range(K):
                for m in range(min(_W, features - o)):
                    r[(FIRST + k) * _ROW + m] = coefficients[k, o + m]
        line = np.empty(features * length * LANES, current.dtype)
        emitted = np.empty(features * room * LANES, current.dtype)
        front = room - before - steps
        few = features * WINDOW // _FEW
        senders, everybody = np.empty(features, np.int64), np.ones(features, np.bool_)
        for group in range(begin, end):
            n0 = group * LANES
            side = min(LANES, samples - n0)
            line[:] = 0
            emitted[:] = 0
            said, at_once, left = 0, True, -room  # spikes of a window, whether they are sent, the last row to be collected
            for row in range(before):
                count = _gather_spikes(past[row], n0, side, emitted, room, front + row, senders)
                said, at_once, left = _say(
                    line, row, near, far, emitted, count, senders, room, front + row, few, said, at_once, left
                )
            for t in range(steps):
                row = before + t
                if t % WINDOW == 0 and left + front >= row:
                    _collect(line, length, row, windows, emitted, front + row, row + WINDOW - 2, everybody)
                for i in range(features):
                    at = (i * length + row) * LANES
                    for k in range(side):
                        total[t, n0 + k, i] = current[t, n0 + k, i] + line[at + k]
                for k in range(side):
                    n = n0 + k
                    for c in range(chunks):
                        o, w = c * _W, min(_W, features - c * _W)
                        r = buffer[(k * chunks + c) * ROWS : (k * chunks + c + 1) * ROWS]
                        if t == 0:
                            for m in range(w):
                                r[X0 + m], r[S + m] = x0_0[n, o + m], s_0[n, o + m]
                                if two:
                                    r[X1 + m] = x1_0[n, o + m]
                        i_t, fired = total[t, n, o : o + w], spikes[t, n, o : o + w]
                        for m in range(w):
                            r[X0 + m], r[X1 + m], r[S + m] = advance(
                                r, m, r[X0 + m], r[X1 + m] if two else zero, r[S + m], i_t[m], one, zero
                            )
                        for m in range(w):
                            fired[m] = r[S + m]
                        if (t + 1) % every == 0 and t // every < x0_seq.shape[0]:
                            kept = x0_seq[t // every, n, o : o + w]
                            for m in range(w):
                                kept[m] = r[X0 + m]
                            if two:
                                kept = x1_seq[t // every, n, o : o + w]
                                for m in range(w):
                                    kept[m] = r[X1 + m]
                        if t + 1 == steps:
                            for m in range(w):
                                x0_T[n, o + m], s_T[n, o + m] = r[X0 + m], r[S + m]
                                if two:
                                    x1_T[n, o + m] = r[X1 + m]
                if t + 1 < steps:
                    count = _gather_spikes(spikes[t], n0, side, emitted, room, front + row, senders)
                    said, at_once, left = _say(
                        line, row, near, far, emitted, count, senders, room, front + row, few, said, at_once, left
                    )

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
        g_x1T, g_sT, phi, total, x0_seq, x1_seq, x0_0, x1_0, s_0, coefficients, before, near, far, room, g_current,
        g_x0_0, g_x1_0, g_s_0, g_coefficients, g_past,
    ):  # fmt: skip
        steps, samples, features = total.shape
        one = total.dtype.type(1)
        zero = total.dtype.type(0)
        chunks = -(-features // _W)
        buffer = np.empty(LANES * chunks * ROWS, total.dtype)
        line = np.empty(features * room * LANES, total.dtype)
        met = np.empty(features * WINDOW * LANES, total.dtype)
        senders, wanted = np.empty(features, np.int64), np.empty((WINDOW, features), np.bool_)
        anybody, everybody = np.empty(features, np.bool_), np.ones(features, np.bool_)
        few = features * WINDOW // _FEW
        anew = every > 1
        part_length = every if anew else _PART
        # before and behind every step of a part
        x0s = np.zeros((LANES, min(part_length, steps) + 1, features), total.dtype)
        x1s = np.zeros((LANES, min(part_length, steps) + 1, features), total.dtype)
        for group in range(begin, end):
            n0 = group * LANES
            side = min(LANES, samples - n0)
            line[:] = 0
            buffer[:] = 0
            for k in range(side):
                for c in range(chunks):
                    o, w = c * _W, min(_W, features - c * _W)
                    r = buffer[(k * chunks + c) * ROWS : (k * chunks + c + 1) * ROWS]
                    for m in range(w):
                        for q in range(K):
                            r[(FIRST + q) * _ROW + m] = coefficients[q, o + m]
                        r[D0 + m], r[DS + m] = g_x0T[n0 + k, o + m], g_sT[n0 + k, o + m]
                        if two:
                            r[D1 + m] = g_x1T[n0 + k, o + m]
            for part in range((steps - 1) // part_length, -1, -1):
                start = part * part_length
                stop = min(start + part_length, steps)
                for k in range(side):
                    n = n0 + k
                    for q in range(1 if anew else stop - start + 1):  # the states that were kept
                        at = start + q - 1
                        for m in range(features):
                            x0s[k, q, m] = x0_0[n, m] if at < 0 else x0_seq[part - 1 if anew else at, n, m]
                        if two:
                            for m in range(features):
                                x1s[k, q, m] = x1_0[n, m] if at < 0 else x1_seq[part - 1 if anew else at, n, m]
                    for c in range(chunks if anew else 0):
                        o, w = c * _W, min(_W, features - c * _W)
                        r = buffer[(k * chunks + c) * ROWS : (k * chunks + c + 1) * ROWS]
                        for m in range(w):
                            if part == 0:
                                r[S + m] = s_0[n, o + m]
                            else:
                                r[S + m] = one if above(r, m, x0s[k, 0, o + m], x1s[k, 0, o + m]) >= zero else zero
                        for t in range(start, stop):
                            i_t = total[t, n, o : o + w]
                            x0, x1 = x0s[k, t - start, o : o + w], x1s[k, t - start, o : o + w]
                            y0, y1 = x0s[k, t - start + 1, o : o + w], x1s[k, t - start + 1, o : o + w]
                            for m in range(w):
                                y0[m], y1[m], r[S + m] = advance(r, m, x0[m], x1[m], r[S + m], i_t[m], one, zero)
                for t in range(stop - 1, start - 1, -1):
                    row = before + t
                    if (stop - 1 - t) % WINDOW == 0:
                        low = max(start, t + 1 - WINDOW)
                        wanted[:] = False
                        for k in range(side):
                            for c in range(chunks):
                                o, w = c * _W, min(_W, features - c * _W)
                                r = buffer[(k * chunks + c) * ROWS : (k * chunks + c + 1) * ROWS]
                                for v in range(low, t + 1):
                                    y0, y1 = x0s[k, v - start + 1, o : o + w], x1s[k, v - start + 1, o : o + w]
                                    here = wanted[v - low, o : o + w]
                                    for m in range(w):
                                        if boxcar:
                                            here[m] |= abs(above(r, m, y0[m], y1[m])) <= width
                                        else:
                                            here[m] |= phi[v, n0 + k, o + m] != 0
                        anybody[:] = False
                        asking = 0
                        for v in range(WINDOW):
                            anybody |= wanted[v]
                            for j in range(features):
                                asking += wanted[v, j]
                        met[:] = 0
                        if asking >= few:
                            _collect(met, WINDOW, 0, far, line, before + low, steps - 2 - low, anybody)
                    q = t - low
                    count = 0
                    for j in range(features if t + 1 < steps else 0):
                        if wanted[q, j]:
                            senders[count] = j
                            count += 1
                    _meet(met, q, line, row, near, count, senders)
                    if asking < few:
                        _meet(met, q, line, row, far, count, senders)
                    for k in range(side):
                        n = n0 + k
                        for c in range(chunks):
                            o, w = c * _W, min(_W, features - c * _W)
                            r = buffer[(k * chunks + c) * ROWS : (k * chunks + c + 1) * ROWS]
                            x0, x1 = x0s[k, t - start, o : o + w], x1s[k, t - start, o : o + w]
                            y0, y1 = x0s[k, t - start + 1, o : o + w], x1s[k, t - start + 1, o : o + w]
                            g_t = g_s[t, n, o : o + w]
                            for m in range(w):
                                r[G + m] = g_t[m] + met[((o + m) * WINDOW + q) * LANES + k]
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
                                    r, m, r[D0 + m], r[D1 + m] if two else zero, r[DS + m], y0[m], y1[m], x0[m], x1[m],
                                    r[S + m], i_t[m], r[G + m], phi_t[m], width, height, through_j, through_r0, through_r1,
                                    one, zero,
                                )  # fmt: skip
                                if two:
                                    r[D1 + m] = d1
                            d_i = g_current[t, n, o : o + w]
                            for m in range(w):
                                d_i[m] = r[DI + m]
                    for i in range(features):
                        at = (i * room + row) * LANES
                        for k in range(side):
                            line[at + k] = g_current[t, n0 + k, i]
            if wants_past:
                for low in range(0, before, WINDOW):
                    met[:] = 0
                    _collect(met, WINDOW, 0, far, line, low, before + steps - 2 - low, everybody)
                    _collect(met, WINDOW, 0, near, line, low, before + steps - 2 - low, everybody)
                    for h in range(low, min(low + WINDOW, before)):
                        for j in range(features):
                            for k in range(side):
                                g_past[h, n0 + k, j] = met[(j * WINDOW + h - low) * LANES + k]
            for k in range(side):
                n = n0 + k
                for c in range(chunks):
                    o, w = c * _W, min(_W, features - c * _W)
                    r = buffer[(k * chunks + c) * ROWS : (k * chunks + c + 1) * ROWS]
                    for m in range(w):
                        g_x0_0[n, o + m], g_s_0[n, o + m] = r[D0 + m], r[DS + m]
                        if two:
                            g_x1_0[n, o + m] = r[D1 + m]
                        for q in range(K):  # rows of q stay zero: they are values alone
                            g_coefficients[q, n, o + m] = r[(GRADIENTS + q) * _ROW + m]

    return kernel


def forward(
    current: Tensor, state: tuple[Tensor, ...], coefficients: Tensor, taps: Tensor, lags: Tensor, ends: Tensor | None,
    past: Tensor, code: int, every: int = 1,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Run the neurons.

    :param current: ``[T, N, F]``; :param state: (x0, x1, s), each ``[N, F]``; :param coefficients: ``[K, F]``.
    :param taps: ``[width, synapses]``; :param lags: of the first taps; :param ends: receivers and senders,
        ``[2, synapses]``, None: all to all. :param past: the spikes before the first step, oldest first, ``[H, N, F]``.
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
    pairs, rows = pairs_of(taps, lags, ends, features), len(past) + steps
    longest = int(pairs.lags.max(initial=0, where=pairs.lags < rows))
    length, front = rows + longest + WINDOW, longest + 2  # silence
    arguments = [
        *_arrays(current, *state, coefficients, past), pairs.near_by_sender(rows, features, length),
        pairs.far_by_sender(rows, features, length), length,
        pairs.far_by_receiver(rows, features, front + rows), front + rows,
        *_arrays(spikes, total, x0_seq, x1_seq, *final), every,
    ]  # fmt: skip
    kernel = _forward_kernel(Structure.of(code).of_forward.code)
    over_ranges(lambda begin, end: kernel(begin, end, *arguments), -(-samples // LANES))
    return spikes, total, x0_seq, x1_seq, final[0], final[1], final[2]


def backward(
    gradients: tuple[Tensor | None, ...], phi: Tensor | None, boxcar: tuple[float, float], spikes: Tensor, total: Tensor,
    traces: tuple[Tensor, Tensor], state: tuple[Tensor, ...], coefficients: Tensor, taps: Tensor, lags: Tensor,
    ends: Tensor | None, past: Tensor, code: int, every: int, wants_past: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients of :func:`forward`.

    :param gradients: of spikes, traces of x0 and x1, and the last x0, x1 and s, ``None`` where there is none.
    :param phi: derivative of the surrogate at every step, ``[T, N, F]``; ``None``: the boxcar of that width and height.
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
    pairs, rows = pairs_of(taps, lags, ends, features), before + steps
    room = rows + int(pairs.lags.max(initial=0, where=pairs.lags < rows)) + 2 * WINDOW
    near, far = pairs.near_by_sender(rows, features, room), pairs.far_by_sender(rows, features, room)
    inputs = [*_arrays(total, *traces, *state, coefficients), before, near, far, room]
    kernel = _backward_kernel(structure._replace(detached=()).code, phi is None)
    outputs = _arrays(*out)
    over_ranges(lambda begin, end: kernel(begin, end, *options, *incoming, *inputs, *outputs), -(-samples // LANES))
    g_taps = tap_gradients(pairs, (near, far), room, past, spikes, outputs[0])
    *g_inputs, g_past = out
    return *g_inputs, g_taps, g_past
