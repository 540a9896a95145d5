"""Data of the EventProp recipes: Yin-Yang against its definition, augmentations, sigma-delta, files and their errors."""

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from recipes.engine.data import events, miniature
from recipes.engine.data.events import EventRecordings, Sampling, ShdEvents
from recipes.engine.data.thinning import Thinning
from recipes.eventprop import braille, yin_yang
from recipes.eventprop.augmentation import ShiftAndBlend, ShiftStretchAndDrop, blend, drop, shift, stretch
from recipes.eventprop.braille import Braille, sigma_delta
from recipes.eventprop.yin_yang import Encoding, YinYang

SHARED = Path(__file__).parents[3] / "shared" / "data"


def rng(seed=0):
    return np.random.default_rng(seed)


# --------------------------------------------------------------------------------------------------- Yin-Yang


def drawn_class(x, y):
    """Point by point, as one draws the symbol: the dots, then the two half-size disks, then the upper half."""
    left, right = math.dist((x, y), (0.25, 0.5)), math.dist((x, y), (0.75, 0.5))
    if left < 0.1 or right < 0.1:
        return yin_yang.DOTS
    if left <= 0.25:
        return yin_yang.YIN
    if right <= 0.25:
        return yin_yang.YANG
    return yin_yang.YIN if y > 0.5 else yin_yang.YANG


def test_points_have_the_class_of_the_symbol_they_lie_in():
    x, y = rng().random((2, 4000))
    inside = np.hypot(x - 0.5, y - 0.5) <= 0.5
    x, y = x[inside], y[inside]
    expected = [drawn_class(*point) for point in zip(x, y, strict=True)]
    np.testing.assert_array_equal(yin_yang.which_class(x, y), expected)
    assert set(expected) == {0, 1, 2}


def test_generated_points_lie_in_the_disk_in_three_classes_of_equal_probability():
    xy, labels = yin_yang.points(6000, rng())
    assert (np.hypot(*(xy - 0.5).T) <= 0.5).all()
    np.testing.assert_array_equal(yin_yang.which_class(*xy.T), labels)
    assert np.abs(np.bincount(labels) - 2000).max() < 5 * math.sqrt(6000 * 2 / 9)


def test_coordinates_become_four_spike_times():
    recordings = Encoding(early=2.0, late=12.0, duration=30.0)(np.array([[0.25, 0.8]]), np.array([1]))
    batch, labels = recordings.batch(np.array([0]), rng())
    found = dict(zip(batch.units.tolist(), batch.times.tolist(), strict=True))
    assert found == pytest.approx({0: 4.5, 1: 10.0, 2: 9.5, 3: 4.0}) and labels.tolist() == [1]
    assert batch.duration == 30.0 and batch.num_units == 4


def test_the_three_sets_are_different_and_follow_the_seed():
    one, same, other = (YinYang(Encoding(), (50, 20, 20), seed).load(None, "clean") for seed in (0, 0, 1))
    assert one.digest == same.digest != other.digest
    assert [len(part) for part in (one.train, one.valid, one.test)] == [50, 20, 20]
    assert not np.array_equal(one.valid.times, one.test.times)


# ----------------------------------------------------------------------------------------------- augmentation


def test_a_shift_moves_all_channels_alike_and_loses_what_leaves():
    times, units = shift((np.arange(4, dtype=np.float32), np.array([0, 3, 5, 9], np.int16)), 4, 10)
    assert units.tolist() == [4, 7, 9] and times.tolist() == [0.0, 1.0, 2.0]
    assert shift((times, units), -8, 10)[1].tolist() == [1]


def cloud(seed, t, u, n=4000):
    draw = rng(seed)
    times = np.sort(draw.normal(t, 20, n)).astype(np.float32)
    return times, draw.normal(u, 15, n).round().astype(np.int16)


def test_a_blend_lies_at_the_common_centre_of_mass_and_keeps_half_of_each():
    times, units = blend(cloud(1, 300, 200), cloud(2, 500, 300), rng(), 700, 1000.0)
    assert times.mean() == pytest.approx(400, abs=2) and units.mean() == pytest.approx(250, abs=2)
    assert times.std() < 25 and units.std() < 20  # one cloud, not two
    assert abs(len(times) - 4000) < 250 and (np.diff(times) >= 0).all()


def test_a_blend_keeps_to_the_range_of_channels_and_time():
    times, units = blend(cloud(1, 10, 5), cloud(2, 990, 695), rng(), 700, 1000.0, share=1.0)
    assert (units >= 0).all() and (units < 700).all() and (times >= 0).all() and (times < 1000).all()


def test_a_blend_with_silence_stays_where_it_is():
    silence = (np.zeros(0, np.float32), np.zeros(0, np.int16))
    times, _ = blend(cloud(1, 300, 200), silence, rng(), 700, 1000.0, share=1.0)
    assert len(times) == 4000 and times.mean() == pytest.approx(300, abs=2)


@pytest.fixture
def recordings():
    samples = [cloud(i, 100 + 200 * (i % 2), 100 + 300 * (i % 2), 50) for i in range(10)]
    return EventRecordings.of(samples, np.arange(10) % 2, 700, 1000.0)


def test_an_augmented_epoch_holds_every_sample_and_the_blends(recordings):
    part = ShiftAndBlend(channels=0, blended=0.5)(recordings)
    assert len(part) == 15
    batch, labels = part.batch(np.arange(15), rng())
    assert labels[:10].tolist() == recordings.labels.tolist()
    plain, _ = recordings.batch(np.arange(10), rng())
    assert torch.equal(batch[:10].times, plain.times) and torch.equal(batch[:10].units, plain.units)
    for i in range(10, 15):  # blends of a class lie where the class lies
        assert batch[i].times.mean().item() == pytest.approx(100 + 200 * labels[i].item(), abs=15)


def test_augmentation_follows_the_generator_alone(recordings):
    part = ShiftAndBlend(channels=40, blended=0.5)(recordings)
    one, same, other = (part.batch(np.arange(15), rng(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one.units, same.units) and torch.equal(one.times, same.times)
    assert len(one) != len(other) or not torch.equal(one.units, other.units)


def test_every_sample_is_shifted_by_its_own_number_within_the_range(recordings):
    part = ShiftAndBlend(channels=40, blended=0.0)(recordings)
    found = set()
    for seed in range(30):
        batch, _ = part.batch(np.arange(10), rng(seed))
        for i in range(10):
            moved = batch[i].units.numpy() - recordings.sample(i)[1]
            assert (moved == moved[0]).all()
            found.add(int(moved[0]))
    assert min(found) < -30 and max(found) > 30 and min(found) >= -40 and max(found) <= 40


def test_a_stretch_loses_what_ends_up_after_the_end_and_a_drop_the_share_that_it_is_given():
    sample = np.arange(0, 1000, 0.25, dtype=np.float32), np.arange(4000)
    times, units = stretch(sample, 1.25, 1000.0)
    assert times.dtype == np.float32 and units.tolist() == list(range(3200)) and times[8] == pytest.approx(2.5)
    assert stretch(sample, 0.5, 1000.0)[0][-1] == pytest.approx(499.875)
    times, units = drop(sample, 0.3, rng())
    assert len(times) == pytest.approx(2800, abs=150) and np.array_equal(times, units * np.float32(0.25))


def test_every_sample_is_stretched_dropped_and_shifted_within_the_ranges(recordings):
    part = ShiftStretchAndDrop(channels=40, blended=0.0, stretched=0.1, dropped=0.4)(recordings)
    factors, shares = [], []
    for seed in range(30):
        batch, _ = part.batch(np.arange(10), rng(seed))
        for i in range(10):
            factors.append(batch[i].times.mean().item() / recordings.sample(i)[0].mean())
            shares.append(1 - len(batch[i]) / 50)
    assert 0.85 < min(factors) < 0.93 and 1.07 < max(factors) < 1.15
    assert min(shares) < 0.05 and 0.3 < max(shares) < 0.65 and np.mean(shares) == pytest.approx(0.2, abs=0.04)


# --------------------------------------------------------------------------------------------------- thinning


def test_of_a_merged_channels_events_every_third_is_kept_at_its_time():
    times = np.arange(9, dtype=np.float32)
    units = np.array([0, 1, 4, 2, 0, 5, 1, 0, 2])  # channel 0 of the merged: times 0 1 3 4 6 7 8; channel 1: 2 5
    whole = EventRecordings.of([(times, units), (times[:0], units[:0])], [3, 1], 6, 20.0)
    thinned = Thinning(merged=3, every=3)(whole)
    assert thinned.num_units == 2 and len(thinned) == 2 and thinned.labels.tolist() == [3, 1]
    kept, channels = thinned.sample(0)
    assert kept.tolist() == [1.0, 5.0, 6.0] and channels.tolist() == [0, 1, 0]
    assert len(thinned.sample(1)[0]) == 0


def test_without_thinning_and_merging_nothing_changes(recordings):
    same = Thinning(merged=1, every=1)(recordings)
    assert np.array_equal(same.times, recordings.times) and np.array_equal(same.units, recordings.units)


def test_channels_that_do_not_merge_are_refused(recordings):
    with pytest.raises(ValueError, match="merged = 3 does not divide the 700 channels"):
        Thinning(merged=3)(recordings)
    with pytest.raises(ValueError, match="at least 1"):
        Thinning(every=0)


def test_the_miniature_of_a_smoke_test_keeps_its_few_events_where_they_would_be_thinned():
    source, folder = ShdEvents(Sampling(), {"none": None}, "none", thinning=Thinning(merged=5, every=32)).smoke()
    whole, _ = ShdEvents(Sampling(), {"none": None}, "none").smoke()
    merged, whole = source.load(folder, "clean"), whole.load(folder, "clean")
    assert (merged.inputs, len(merged.train.times)) == (140, len(whole.train.times)) and len(whole.train.times) > 0


# ------------------------------------------------------------------------------------------------ sigma-delta


def test_every_crossing_of_a_threshold_is_an_event_at_its_time():
    trace = np.zeros((1, 3, 12))
    trace[0, :, 0] = [10, 13, 11.5]  # up 3, down 1.5
    ((times, channels),) = sigma_delta(trace, 1.0, 25.0)
    assert channels.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(times, [25 / 3, 50 / 3, 25, 25 + 25 / 1.5])


@pytest.mark.parametrize("threshold", [1.0, 2.0, 0.7])
def test_the_events_rebuild_the_trace_to_within_one_threshold(threshold):
    trace = 100 + np.cumsum(rng(3).normal(0, 3, (1, 60, 12)), axis=1)
    ((times, channels),) = sigma_delta(trace, threshold, 1.0)
    for taxel in range(12):
        for frame in range(60):
            up, down = (((channels == 2 * taxel + p) & (times <= frame + 1e-9)).sum() for p in (0, 1))
            rebuilt = trace[0, 0, taxel] + threshold * (up - down)
            assert abs(rebuilt - trace[0, frame, taxel]) < threshold * (1 + 1e-9)


def test_every_sample_is_encoded_by_itself():
    traces = 100 + np.cumsum(rng(4).normal(0, 3, (5, 20, 12)), axis=1)
    traces[2] = 7.0  # silent
    together = sigma_delta(traces, 1.0, 25.0)
    for trace, found in zip(traces, together, strict=True):
        (alone,) = sigma_delta(trace[None], 1.0, 25.0)
        assert all(np.array_equal(one, other) for one, other in zip(alone, found, strict=True))
    assert [len(times) > 0 for times, _ in together] == [True, True, False, True, True]


def test_a_constant_trace_is_silent_and_a_threshold_is_positive():
    for frames in (1, 5):
        assert [len(part) for part in sigma_delta(np.full((1, frames, 12), 7), 1.0, 25.0)[0]] == [0, 0]
    with pytest.raises(ValueError, match="threshold must be positive, not 0"):
        sigma_delta(np.zeros((1, 5, 12)), 0, 25.0)


# ---------------------------------------------------------------------------------------------- Braille files


def th10(folder, **changes):
    labels = np.repeat(np.arange(3), 10)
    arrays = {
        "times": np.tile(np.array([0.1, 0.2], np.float32), 30),
        "channels": np.tile(np.array([3, 23], np.uint8), 30),
        "offsets": np.arange(0, 61, 2, dtype=np.int32),
        "labels": labels.astype(np.uint8),
        "letters": np.array(["Space", "A", "B"]),
    } | changes
    np.savez(folder / "braille_th10.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder


def test_letters_are_split_70_10_20_in_every_class(tmp_path):
    splits = Braille().load(th10(tmp_path), "clean")
    assert [np.bincount(part.labels).tolist() for part in (splits.train, splits.valid, splits.test)] == [
        [7] * 3,
        [1] * 3,
        [2] * 3,
    ]
    assert splits.inputs == 24 and splits.classes == 3 and splits.name == "Braille-th10"
    assert splits.train.sample(0)[0].tolist() == pytest.approx([100.0, 200.0]) and splits.train.duration == 225.0
    assert splits.criterion == "valid_accuracy" == splits.criteria["paper"]


@pytest.mark.skipif(not (SHARED / "braille").is_dir(), reason="../shared/data/braille is not here")
def test_the_recordings_at_hand_are_read():
    published = Braille().load(SHARED / "braille", "clean")
    assert [len(part) for part in (published.train, published.valid, published.test)] == [3780, 540, 1080]
    with np.load(SHARED / "braille" / "braille_th10.npz") as stored:
        total = len(stored["times"])
    assert sum(len(part.times) for part in (published.train, published.valid, published.test)) == total
    fine, coarse = (Braille(encoding).load(SHARED / "braille", "clean") for encoding in ("theta1", "theta2"))
    assert len(fine.train) == 945 and 1.5 < len(fine.train.times) / len(coarse.train.times) < 4


# ------------------------------------------------------------------------------------------ SHD's files as events


def shd(path, times, units, labels):
    with h5py.File(path, "w") as file:
        for name, arrays, kind in (("times", times, np.float16), ("units", units, np.uint16)):
            dataset = file.create_dataset(f"spikes/{name}", (len(arrays),), h5py.vlen_dtype(kind))
            for i, array in enumerate(arrays):
                dataset[i] = np.asarray(array, kind)
        file["labels"] = np.asarray(labels)
    return path


def test_a_channel_spikes_once_per_step_and_late_spikes_are_left_out(tmp_path):
    times = [[0.0021, 0.0022, 0.0029, 0.0031, 0.75, 1.0], [0.5]]
    path = shd(tmp_path / "x_train.h5", times, [[7, 7, 8, 7, 1, 1], [3]], [0, 1])
    recordings = events.read(path, Sampling(duration=1000.0, resolution=1.0))
    assert recordings.sample(0)[0].tolist() == [2.0, 2.0, 3.0, 750.0]
    assert recordings.sample(0)[1].tolist() == [7, 8, 7, 1]
    assert recordings.sample(1)[0].tolist() == [500.0]
    exact = events.read(path, Sampling(duration=1000.0, resolution=None))
    assert len(exact.sample(0)[0]) == 5 and exact.sample(0)[0][0] == pytest.approx(2.1, abs=0.002)


def test_a_miniature_is_read_like_its_raw_events(tmp_path):
    folder = miniature.make(tmp_path, sizes={"train": 12, "test": 4})
    source = ShdEvents(Sampling(resolution=None), {"none": None}, "none")
    splits = source.load(folder, "paper")
    assert len(splits.train.times) == 12 * 160 and splits.criterion == "train_accuracy" and splits.classes == 4
    batch, labels = splits.train.batch(np.array([3, 5]), rng())
    assert batch.batch_size == 2 and len(batch) == 320 and labels.tolist() == splits.train.labels[[3, 5]].tolist()


def test_the_second_reading_comes_from_the_cache(tmp_path, monkeypatch):
    path = shd(tmp_path / "x_train.h5", [[0.1], [0.2]], [[1], [6]], [0, 1])
    first = events.read(path, Sampling())
    monkeypatch.setattr(events, "_read", lambda *_: pytest.fail("read again"))
    second = events.read(path, Sampling())
    for name in ("times", "units", "offsets", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_taken_samples_keep_their_events(recordings):
    taken = recordings.take(np.array([4, 1]))
    for new, old in enumerate((4, 1)):
        for mine, theirs in zip(taken.sample(new), recordings.sample(old), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert taken.labels.tolist() == [0, 1]


def test_miniature_letters_differ_in_time():
    source, folder = Braille("theta2").smoke()
    splits = source.load(folder, "clean")
    assert folder is None and splits.classes == 4 and len(splits.train.times) > 0
    assert braille.RATE == 40.0
