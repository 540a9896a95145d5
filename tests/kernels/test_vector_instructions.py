"""Vector instructions of the EventProp loops against what they stand for, written plainly."""

from __future__ import annotations

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from snn_delay_plugins.kernels import compiled  # noqa: E402
from snn_delay_plugins.kernels.eventprop.linear import powers  # noqa: E402
from snn_delay_plugins.kernels.eventprop.numba import lanes, tables  # noqa: E402


@pytest.fixture
def arrivals():
    """x, where: the row of every lane, as fixed point; the rows of the lanes differ, as their columns do."""
    r = np.random.default_rng(0)
    x = np.int64(3 << 32) + np.int64(1 << 30)
    return r, x, (np.arange(8, dtype=np.int64) * 11 << 32) + r.integers(0, 1 << 34, 8)


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
        rows[2 * (int(x + where[lane]) >> 32)] = np.nan

    @numba.njit
    def run(total):
        return lanes.gather_pairs(rows, x, where, 0.5, -2.0, 0.25, total)

    got, expected = start.copy(), start.copy()
    assert run(got) == lanes._gather_pairs_plain(rows, x, where, 0.5, -2.0, 0.25, expected) == 3 << 4 | 3 << 14
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    assert np.flatnonzero(got == start).tolist() == [4, 5, 14, 15]


def test_the_moments_of_an_arrival_are_its_weight_times_powers():
    bucket = np.ones(24)

    @numba.njit
    def run(bucket):
        powers.add_powers(bucket, np.uint64(8), 3.0, -0.7)

    run(bucket)
    np.testing.assert_allclose(bucket[8:16], 1 + 3 * (-0.7) ** np.arange(8), rtol=1e-14)
    assert (bucket[:8] == 1).all()
    assert (bucket[16:] == 1).all()


def test_a_loop_with_vector_instructions_is_described_by_the_pieces_that_they_are_built_of():
    assert "llvm.fmuladd" in repr(compiled._description(tables.scatter))
    assert "('LANES', '8')" in repr(compiled._description(tables.scatter))
