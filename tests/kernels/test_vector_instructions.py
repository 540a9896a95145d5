"""Vector instructions of the EventProp loops against what they stand for, written plainly."""

from __future__ import annotations

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from snn_delay_plugins.kernels import compiled  # noqa: E402
from snn_delay_plugins.kernels.eventprop.linear import powers  # noqa: E402
from snn_delay_plugins.kernels.eventprop.numba import crossing, lanes, quiet, sorting, tables  # noqa: E402


@pytest.fixture
def arrivals():
    """x, where: the row of every lane, as fixed point."""
    r = np.random.default_rng(0)
    x = np.int64(3 << 32) + np.int64(1 << 30)
    return r, x, r.integers(0, 7 << 32, 8)


def test_arrivals_of_eight_lanes_are_added_and_chained(arrivals):
    r, x, where = arrivals
    pairs, start, heads = r.normal(size=16), r.normal(size=200), np.arange(100, 200, dtype=np.int32)

    @numba.njit
    def run(bucket, head, links):
        lanes.scatter_pairs(bucket, head, x, where, pairs, 0.5, -2.0, 0.25, links, np.int32(77))

    got, expected = ((start.copy(), heads.copy(), np.zeros(8, np.int32)) for _ in range(2))
    run(*got)
    lanes._scatter_pairs_plain(expected[0], expected[1], x, where, pairs, 0.5, -2.0, 0.25, expected[2], np.int32(77))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    assert (got[1] == 77).sum() == 8
    assert (got[0] != start).sum() == 16


def test_pairs_of_eight_lanes_are_read_but_for_those_that_begin_with_nan(arrivals):
    r, x, where = arrivals
    rows, start = r.normal(size=200), r.normal(size=16)
    for lane in (2, 7):
        rows[2 * tables.place_of.py_func(int(x), int(where[lane]), lane)] = np.nan

    @numba.njit
    def run(total):
        return lanes.gather_pairs(rows, x, where, 0.5, -2.0, 0.25, total)

    got, expected = start.copy(), start.copy()
    assert run(got) == lanes._gather_pairs_plain(rows, x, where, 0.5, -2.0, 0.25, expected) == 1 << 2 | 1 << 7
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    assert np.flatnonzero(got == start).tolist() == [4, 5, 14, 15]


@pytest.mark.parametrize("bits", [1, 6, 1 << 7, (1 << 62) + (1 << 40)])
def test_the_lowest_bit_that_is_set_is_found(bits):
    run = numba.njit(lambda bits: lanes.lowest_bit(bits))
    assert run(bits) == lanes._lowest_bit_plain(bits) == lanes._lowest_bit_plain(np.int64(bits))
    assert bits % 2 ** run(bits) == 0 != bits >> run(bits) & 1


def test_eight_neurons_advance_a_step_and_those_that_may_spike_are_told():
    r = np.random.default_rng(1)
    constants = quiet.step_constants(1.0, 20.0, 5.0, 1.0)
    run, told = numba.njit(lambda *a: quiet.advance_lanes(*a)), []
    for scale in (0.1, 1, 3, 10):
        bucket, inhibition = scale * r.normal(size=96), np.abs(r.normal(size=48))
        start = scale * np.concatenate([r.normal(size=8).clip(max=0.9), r.normal(size=8)])
        got, expected = ((start.copy(), np.zeros(16)) for _ in range(2))
        told.append(run(bucket, inhibition, 16, *got, constants))
        assert told[-1] == quiet._advance_lanes_plain(bucket, inhibition, 16, *expected, constants)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)
        np.testing.assert_array_equal(got[1], start)
        alone = [crossing.reach.py_func(bucket, inhibition, 16 + n, start[n], start[8 + n], constants)[0] for n in range(8)]
        assert [bool(told[-1] >> n & 1) for n in range(8)] == alone
        one = [crossing.advance.py_func(bucket, 16 + n, start[n], start[8 + n], constants) for n in range(8)]
        np.testing.assert_allclose(np.transpose(one).ravel(), got[0], rtol=1e-13, atol=1e-14)
    assert told[0] != told[-1]


def test_no_number_never_reaches_the_threshold():
    state, constants = np.full(16, np.nan), quiet.step_constants(1.0, 20.0, 5.0, 1.0)
    run = numba.njit(lambda *a: quiet.advance_lanes(*a))
    assert run(np.full(96, 9.0), np.zeros(48), 16, state, np.empty(16), constants) == 0


def test_eight_neurons_go_back_a_step():
    r = np.random.default_rng(2)
    rows, p, constants = r.normal(size=96), r.normal(size=16), quiet.step_constants(1.0, 20.0, 5.0, 1.0)
    run = numba.njit(lambda *a: quiet.step_lanes_back(*a))
    got, expected = ((rows.copy(), p.copy()) for _ in range(2))
    run(got[0], 16, got[1], constants)
    quiet._step_lanes_back_plain(expected[0], 16, expected[1], constants)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(got[0][:32], rows[:32])  # what lies outside of the two rows
    np.testing.assert_array_equal(got[0][64:], rows[64:])


def test_the_moments_of_an_arrival_are_its_weight_times_powers():
    bucket = np.ones(24)

    @numba.njit
    def run(bucket):
        powers.add_powers(bucket, np.uint64(8), 3.0, -0.7)

    run(bucket)
    np.testing.assert_allclose(bucket[8:16], 1 + 3 * (-0.7) ** np.arange(8), rtol=1e-14)
    assert (bucket[:8] == 1).all()
    assert (bucket[16:] == 1).all()


def test_sums_over_moments_and_over_states_equal_those_one_by_one():
    r = np.random.default_rng(3)
    c, bucket, row, (p0, p1, p2) = r.normal(size=(3, 8)), r.normal(size=24), np.zeros(24), r.normal(size=3)

    @numba.njit
    def run(c, bucket, row):
        powers.moments_by_states(c, p0, p1, p2, row, np.uint64(8))
        return powers.states_by_moments(c, bucket, np.uint64(8))

    np.testing.assert_allclose(run(c, bucket, row), c @ bucket[8:16], rtol=1e-13)
    np.testing.assert_allclose(powers._states_by_moments_plain(c, bucket, np.uint64(8)), c @ bucket[8:16], rtol=1e-13)
    expected = np.zeros(24)
    powers._moments_by_states_plain(c, p0, p1, p2, expected, np.uint64(8))
    np.testing.assert_allclose(row, expected, rtol=1e-13)
    np.testing.assert_allclose(row[8:16], p0 * c[0] + p1 * c[1] + p2 * c[2], rtol=1e-13)


@pytest.mark.parametrize("count", [0, 1, 3, 8, 9, 30, 70])
def test_arrivals_are_sorted_stably(count):
    r = np.random.default_rng(count)
    for room in (count, count + 1, 100):
        s, w = np.full(room, 7.0), np.full(room, 7.0)
        s[:count], w[:count] = r.integers(0, 5, count), np.arange(count)
        order = np.argsort(s[:count], kind="stable")
        expected = s[order], w[order]
        sorting.sort_pairs(s, w, count)
        np.testing.assert_array_equal((s[:count], w[:count]), expected)
        assert s.size < 9 or (s[8:] == 7).all() or count > 8


def test_a_loop_with_vector_instructions_is_described_by_the_pieces_that_they_are_built_of():
    assert "llvm.fmuladd" in repr(compiled._description(tables.scatter))
    assert "('LANES', '8')" in repr(compiled._description(tables.scatter))
