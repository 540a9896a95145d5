"""Recordings as arrays of rows become events, and batches of a DataLoader."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from snn_delay_plugins import SpikeEvents

CAMERA = np.dtype([("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", bool)])
COCHLEA = np.dtype([("t", np.int64), ("x", np.int16), ("p", np.int8)])


def test_rows_of_time_and_unit_become_events_sample_by_sample():
    rows = [np.array([[2.0, 3], [0.5, 1]]), np.zeros((0, 2)), np.array([[1, 0]])]
    events = SpikeEvents.from_array(rows, num_units=4, duration=5.0)
    assert events.times.tolist() == [0.5, 2.0, 1.0] and events.units.tolist() == [1, 3, 0]
    assert events.offsets.tolist() == [0, 2, 2, 3] and events.times.dtype == torch.float64


def test_one_array_is_a_batch_of_one_and_three_axes_are_a_batch():
    one = np.array([[2.0, 3], [3.0, 1]])
    assert SpikeEvents.from_array(one, num_units=4, duration=5.0).batch_size == 1
    assert SpikeEvents.from_array(np.stack([one, one]), num_units=4, duration=5.0).batch_size == 2
    assert SpikeEvents.from_array(torch.tensor(one), num_units=4, duration=5.0).units.tolist() == [3, 1]
    records = np.array([(1000, 2, 1)], dtype=COCHLEA)
    assert SpikeEvents.from_array(records, num_units=4, duration=5.0, scale=1e-3).batch_size == 1


def test_records_of_a_camera_count_units_as_reshape_does():
    rows = np.array([(1000, 3, 1, True), (2500, 0, 4, False)], dtype=CAMERA)
    events = SpikeEvents.from_array([rows], unit_shape=(2, 5, 6), duration=5.0, scale=1e-3)
    dense = events.to_dense(1.0)
    assert events.unit_shape == (2, 5, 6) and events.times.tolist() == [1.0, 2.5]
    assert dense.nonzero().tolist() == [[1, 0, 1, 1, 3], [2, 0, 0, 4, 0]]


def test_records_of_one_axis_need_no_shape():
    rows = np.array([(1000, 699, 1), (2000, 5, 1)], dtype=COCHLEA)
    events = SpikeEvents.from_array([rows], num_units=700, duration=5.0, scale=1e-3)
    assert events.units.tolist() == [699, 5] and events.unit_shape == (700,)


def test_half_precision_seconds_are_scaled_without_loss():
    rows = np.array([(0.25, 1)], dtype=[("t", np.float16), ("x", np.int64)])
    assert SpikeEvents.from_array([rows], num_units=4, duration=300.0, scale=1000).times.tolist() == [250.0]


@pytest.mark.parametrize(
    "rows, error, message",
    [
        (np.array([[1.0, 0.5]]), ValueError, r"sample 0: units \(the second column\) must be whole .* got 0.5 in row 0"),
        (np.array([[1.0, 4]]), ValueError, r"whole numbers in \[0, 4\), got 4.0 in row 0; rows are \(time, unit\)"),
        (np.array([[1.0, np.nan]]), ValueError, "got nan"),
        (np.array([[1.0, -1]]), ValueError, "got -1.0"),
        (np.ones((3, 3)), TypeError, r"expected an array \(n, 2\).* got shape \(3, 3\)"),
        (np.array([["a", "b"]]), TypeError, r"expected an array \(n, 2\)"),
        (np.array([(1, 2)], dtype=[("t", int), ("y", int)]), TypeError, "fields t and x"),
        (
            np.array([(1, 0, 0, True), (2, 0, 3, True)], dtype=CAMERA),
            ValueError,
            "field 'y' tells units apart.*height, width",
        ),
        (np.array([[6.0, 1]]), ValueError, "6"),
    ],
)
def test_rows_that_are_no_events_are_refused_with_their_place(rows, error, message):
    with pytest.raises(error, match=message):
        SpikeEvents.from_array([rows], num_units=4, duration=5.0)


def test_a_coordinate_outside_of_its_axis_is_no_other_unit():
    rows = np.array([(1, 6, 0, True)], dtype=CAMERA)  # would be (0, 1, 0)
    with pytest.raises(ValueError, match=r"sample 0: 'x' must be whole numbers in \[0, 6\), got 6"):
        SpikeEvents.from_array([rows], unit_shape=(2, 5, 6), duration=5.0)
    with pytest.raises(ValueError, match="needs a field 'y'"):
        SpikeEvents.from_array([np.array([(1, 2, 1)], dtype=COCHLEA)], unit_shape=(2, 5, 6), duration=5.0)


def test_either_the_number_of_units_or_their_shape_is_given():
    for options in ({}, {"num_units": 4, "unit_shape": (2, 2)}):
        with pytest.raises(ValueError, match="give num_units, or unit_shape"):
            SpikeEvents.from_array([np.zeros((0, 2))], duration=5.0, **options)


def test_a_loader_makes_batches_of_events_and_labels():
    data = [(np.array([[i + 0.5, i % 4]]), i % 3) for i in range(10)]
    collate = partial(SpikeEvents.collate, num_units=4, duration=20.0)
    batches = list(DataLoader(data, batch_size=4, collate_fn=collate))
    assert [events.batch_size for events, _ in batches] == [4, 4, 2]
    assert torch.cat([events.times for events, _ in batches]).tolist() == [i + 0.5 for i in range(10)]
    assert torch.cat([labels for _, labels in batches]).tolist() == [i % 3 for i in range(10)]
    alone = next(iter(DataLoader([rows for rows, _ in data], batch_size=3, collate_fn=collate)))
    assert isinstance(alone, SpikeEvents) and alone.batch_size == 3


def test_rows_may_be_lists_of_lists():
    rows = [[[2.0, 3], [0.5, 1]], [[1.0, 0]]]
    for made in (SpikeEvents.from_array, SpikeEvents.collate):
        events = made(rows, num_units=4, duration=5.0)
        assert events.units.tolist() == [1, 3, 0] and events.batch_size == 2


def test_further_parts_of_an_item_are_collated_beside_the_labels():
    events, labels, speakers = SpikeEvents.collate([(np.array([[1.0, 0]]), 2, 7)], num_units=1, duration=2.0)
    assert len(events) == 1 and labels.tolist() == [2] and speakers.tolist() == [7]
