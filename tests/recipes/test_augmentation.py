"""Augmentations of events, one by one, and what is rendered of them."""

import argparse

import numpy as np
import pytest

from recipes.engine.data import miniature
from recipes.engine.data.augmentation import AUGMENTATIONS, Plan, augmentations
from recipes.engine.data.augmented_counts import AugmentedCounts, RenderedCounts
from recipes.engine.data.binned import BinnedCounts, Binning
from recipes.engine.data.events import EventRecordings
from recipes.engine.data.rendering import centres, render
from recipes.engine.errors import OptionError

BINNING = Binning(duration=0.1, steps=10, units=20, group=2)


@pytest.fixture(scope="module")
def three():
    samples = [([12.0, 55.0], [10, 3]), ([32.0, 75.0], [14, 7]), (np.linspace(0.5, 99.5, 400), np.arange(400) % 20)]
    return EventRecordings.of(samples, [0, 0, 1], 20, 100.0)


def places(of, plan, binning=BINNING):
    """(step, channel) of every count of the first sample."""
    return [tuple(map(int, place)) for place in np.argwhere(render(of, plan, binning, centres(of), 0)[0])]


def planned(of, which=(0,), **fields):
    plan = Plan.unchanged(of, np.array(which))
    for name, value in fields.items():
        setattr(plan, name, np.array([value] * len(which)))
    return plan


def test_without_augmentations_counts_are_those_of_the_binned_recordings():
    folder = miniature.make()
    binning = Binning(duration=1.0, steps=125, group=5)
    ours, theirs = (source.load(folder, "clean").train for source in (AugmentedCounts(binning), BinnedCounts(binning)))
    which = np.arange(len(theirs))
    (counts, labels), (expected, classes) = (part.batch(which, np.random.default_rng(0)) for part in (ours, theirs))
    assert counts.equal(expected) and labels.equal(classes) and counts.sum() > 30_000


def test_events_are_moved_and_what_leaves_the_recording_is_lost(three):
    assert places(three, planned(three)) == [(1, 5), (5, 1)]
    assert places(three, planned(three, unit_offset=4.0)) == [(1, 7), (5, 3)]
    assert places(three, planned(three, unit_offset=-4.0)) == [(1, 3)]
    assert places(three, planned(three, time_offset=30.0)) == [(4, 5), (8, 1)]
    assert places(three, planned(three, time_offset=-20.0)) == [(3, 1)]
    assert places(three, planned(three, time_scale=0.5, unit_scale=1.5)) == [(0, 7), (2, 2)]


def test_moves_follow_one_another(three):
    plan = planned(three)
    plan.move_times(2.0, 0.0)
    plan.move_times(1.0, -24.0)
    plan.move_units(1.0, 2.0)
    plan.move_units(0.5, 0.0)
    assert places(three, plan) == [(0, 3), (8, 1)]


def test_waves_move_events_and_thin_units_out(three):
    assert places(three, planned(three, (0,), time_wave=[30.0, 0.0, np.pi / 2], unit_wave=[4.0, 0.0, -np.pi / 2])) == [
        (4, 3)
    ]
    of = EventRecordings.of([(np.full(400, 50.0), np.arange(400) % 20)], [0], 20, 100.0)
    counts = render(of, planned(of, (0,) * 20, unit_loss=[1.0, 1.0, 0.0]), BINNING, centres(of), 0).sum((0, 1))
    assert counts[2] < 60 and counts[7] > 740 and 200 < counts[0] < 420  # sin is 1, -1 and about 0


def test_masked_events_are_lost(three):
    assert places(three, planned(three, time_from=10.0, time_to=50.0)) == [(5, 1)]
    assert places(three, planned(three, unit_from=2.0, unit_to=4.0)) == [(1, 5)]


def test_two_blended_samples_meet_at_their_common_centre_of_mass(three):
    plan = planned(three, (0,) * 200)
    plan.partner[:] = 1
    counts = render(three, plan, BINNING, centres(three), 0).sum(0)
    assert {tuple(map(int, place)) for place in np.argwhere(counts)} == {(2, 6), (6, 2)}  # 12 + 10 ms, 10 + 2 units
    assert 160 < counts[2, 6] < 240 and 160 < counts[6, 2] < 240  # of 2 x 200 events each one half


def test_a_share_of_the_events_is_lost_and_others_are_added(three):
    assert 40 < render(three, planned(three, (2,), lost=0.8), BINNING, centres(three), 0).sum() < 120
    assert render(three, planned(three, (2,), lost=1.0, added=37.0), BINNING, centres(three), 0).sum() == 37
    assert render(three, planned(three, (2,), lost=1.0), BINNING, centres(three), 0).sum() == 0


def test_jitter_has_the_deviation_that_was_asked_for():
    of = EventRecordings.of([(np.full(20000, 50.0), np.full(20000, 50))], [0], 100, 100.0)
    counts = render(of, planned(of, unit_jitter=5.0), Binning(0.1, 10, 100, 1), centres(of), 3)[0].astype(float)
    assert counts.max() == 255  # a full bin says so, and does not begin anew
    of = EventRecordings.of([(np.full(200, 50.0), np.full(200, 50))] * 50, [0] * 50, 100, 100.0)
    plan = planned(of, range(50), unit_jitter=5.0, time_jitter=10.0)
    counts = render(of, plan, Binning(0.1, 100, 100, 1), centres(of), 3).sum(0, dtype=float)
    for axis, deviation in ((1, 10.0), (0, 5.0)):
        marginal, places = counts.sum(axis), np.arange(100)
        mean = (marginal * places).sum() / marginal.sum()
        assert abs(mean - 50) < 1
        assert abs(np.sqrt((marginal * (places - mean) ** 2).sum() / marginal.sum()) - deviation) < 0.4


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_follows_its_generator_and_changes_nothing_at_strength_zero(name, three):
    def counts(strength, seed):
        part = RenderedCounts(three, BINNING, (AUGMENTATIONS[name](strength),))
        return part.batch(np.array([2] * 8), np.random.default_rng(seed))[0]

    strength = {"blend": 1.0, "event_drop": 0.8, "event_add": 0.8, "equalizer": 0.9}.get(
        name, 0.5 if "stretch" in name else 9.0
    )
    assert counts(strength, 1).equal(counts(strength, 1))
    if name != "blend":  # of the only sample of its class with itself
        assert not counts(strength, 1).equal(counts(strength, 2))
    assert not counts(strength, 1).equal(counts(0, 1))
    assert counts(0, 1).equal(RenderedCounts(three, BINNING).batch(np.array([2] * 8), np.random.default_rng(5))[0])


def test_a_blend_stays_within_the_class(three):
    plan = planned(three, (0, 1, 2) * 30)
    augmentations({"blend": 1.0})[0](plan, three, np.random.default_rng(0))
    assert (three.labels[plan.partner] == plan.labels).all() and {0, 1} <= set(plan.partner[plan.labels == 0])
    augmentations({"blend": 0.5})[0](plan := planned(three, (0,) * 400), three, np.random.default_rng(0))
    assert 150 < (plan.partner >= 0).sum() < 250


def test_shifts_stay_within_their_strength_and_reach_it(three):
    plan = planned(three, (0,) * 4000)
    for augmentation in augmentations({"channel_shift": 7, "time_stretch": 0.2}):
        augmentation(plan, three, np.random.default_rng(0))
    assert -7 <= plan.unit_offset.min() < -6.9 and 6.9 < plan.unit_offset.max() <= 7
    assert np.exp(-0.2) <= plan.time_scale.min() < 0.83 and 1.21 < plan.time_scale.max() <= np.exp(0.2)
    middle = plan.time_scale * 50 + plan.time_offset
    assert np.allclose(middle, 50)


@pytest.mark.parametrize(
    "asked, said",
    [
        ("loudness=1", "augmentation 'loudness': there are blend"),
        ("blend=1.5", "augmentation blend=1.5: the number must be finite and between 0 and 1"),
        ("channel_shift=-3", "channel_shift=-3: the number must be finite and not negative"),
        ("time_shift=nan", "time_shift=nan"),
        ("time_shift", "NAME=NUMBER"),
        ("time_shift=much", "NAME=NUMBER"),
    ],
)
def test_an_augmentation_that_makes_no_sense_is_refused(asked, said):
    with pytest.raises(OptionError, match=said):
        AugmentedCounts(BINNING).with_options(argparse.Namespace(augment=asked, allow_silence=False))


def test_augmentations_that_are_asked_for_replace_the_recipe_s_one_by_one():
    recipe = AugmentedCounts(BINNING, {"channel_shift": 50.0, "blend": 0.5})
    changed = recipe.with_options(argparse.Namespace(augment="blend=0,time_shift=20", allow_silence=False))
    assert changed.settings["augmentation"] == {"channel_shift": 50.0, "time_shift": 20.0}
    assert recipe.matches(argparse.Namespace(augment=None), changed.settings)
    assert not recipe.matches(argparse.Namespace(augment="blend=0.1", allow_silence=False), changed.settings)
