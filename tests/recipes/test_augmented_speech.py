"""Clips that are augmented as sound and as spectrograms; events of any source in bins."""

import argparse

import numpy as np
import pytest
import soundfile
import torch

from recipes.engine.data import augmented_speech as speech
from recipes.engine.data import miniature_speech
from recipes.engine.data.augmented_speech import AUGMENTATIONS, AugmentedSpeech, Sounds
from recipes.engine.data.binned_events import BinnedEvents
from recipes.engine.data.speech_commands import LevelledMelSpectrogram, SpeechCommands
from recipes.engine.errors import OptionError
from recipes.eventprop.braille import Braille
from recipes.flagship_gsc import RECIPE

FEATURES = LevelledMelSpectrogram(rate=16000, window=400, hop=160, bands=20, lowest=20.0, highest=8000.0)


class Most:
    """A generator that draws the upper bound, or where it is told the lower."""

    def __init__(self, upper=True):
        self.upper = upper

    def uniform(self, low, high, size):
        return np.full(size, high if self.upper else low, float)

    def integers(self, high, size):
        return np.zeros(size, int)

    def standard_normal(self, shape, dtype):
        return np.random.default_rng(0).standard_normal(shape, dtype)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return miniature_speech.make(tmp_path_factory.mktemp("words"), clips_per_speaker=1)


@pytest.fixture
def clips():
    return np.random.default_rng(1).uniform(-0.5, 0.5, (3, 1600)).astype(np.float32)


def moved(clips, rng, *changes):
    sounds = Sounds.of(clips, 16000)
    for change in changes:
        change.plan(sounds, rng)
    return sounds.moved()


def test_a_clip_is_read_on_the_lines_between_its_samples(clips):
    sounds = Sounds.of(clips, 16000)
    sounds.scale, sounds.offset = np.array([0.9, 1.0, 1.3]), np.array([-3.25, 40.0, 7.5])
    found = sounds.moved()
    for n, clip in enumerate(clips):
        place = sounds.scale[n] * np.arange(1600) + sounds.offset[n]
        expected = np.interp(place, np.arange(1600), clip)
        expected[(place < 0) | (place >= 1599)] = 0
        assert found[n] == pytest.approx(expected, abs=1e-5)


def test_a_shifted_clip_is_later_by_so_many_milliseconds(clips):
    later = moved(clips, Most(), speech.TimeShift(10.0))
    assert later[:, 160:-1] == pytest.approx(clips[:, :-161]) and not later[:, :160].any()
    sooner = moved(clips, Most(upper=False), speech.TimeShift(10.0))
    assert sooner[:, :-161] == pytest.approx(clips[:, 160:-1]) and not sooner[:, -160:].any()


def test_a_faster_clip_keeps_its_middle_and_is_shifted_in_its_own_time():
    clip = np.zeros((1, 1600), np.float32)
    clip[0, [400, 800, 1200]] = 1
    slower = moved(clip, Most(upper=False), speech.Speed(np.log(2)))
    assert np.flatnonzero(slower[0] == 1).tolist() == [0, 800]  # 1600 is outside
    shifted = moved(clip, Most(upper=False), speech.Speed(np.log(2)), speech.TimeShift(10.0))
    assert np.flatnonzero(shifted[0] == 1).tolist() == [640, 1440]


def test_noise_has_at_most_the_power_that_is_asked_for(clips):
    power = np.square(clips).mean(1)
    for rng, level in ((Most(), 0.5), (Most(upper=False), 0.5e-4)):
        noise = speech.Noise(0.5).sound(clips, rng) - clips
        assert np.square(noise).mean(1) == pytest.approx(level * power, rel=0.02)


def test_bands_are_stretched_on_the_lines_between_them():
    bands = torch.rand(2, 5, 12)
    found = speech.BandStretch(0.2).spectrogram(bands, Most())
    place = np.clip(np.exp(0.2) * np.arange(12), 0, 11)
    for n in range(2):
        for t in range(5):
            assert found[n, t].numpy() == pytest.approx(np.interp(place, np.arange(12), bands[n, t].numpy()), abs=1e-6)


@pytest.mark.parametrize("change, dim", [(speech.TimeMask, 1), (speech.BandMask, 2)])
def test_masked_places_are_at_the_mean_and_no_other_is_changed(change, dim):
    bands = torch.rand(64, 40, 30)
    found = change(0.25).spectrogram(bands.clone(), np.random.default_rng(0))
    masked = (found != bands).any(3 - dim)
    assert 0 < masked.float().mean() < 0.25 and masked.float().mean(1).max() <= 0.55
    whole = masked.unsqueeze(3 - dim).expand_as(bands)
    assert torch.equal(found[~whole], bands[~whole])
    of_first = found.mean((1, 2), keepdim=True)
    assert (found - bands.mean((1, 2), keepdim=True))[whole].abs().max() < 0.1 and of_first.shape == (64, 1, 1)


def test_loudness_does_not_matter_and_silence_has_a_floor(clips):
    clip = torch.from_numpy(clips).repeat(1, 10)
    once, twice = FEATURES.features(clip, 16000), FEATURES.features(clip / 8, 16000)
    assert torch.allclose(once, twice, atol=1e-4) and once.mean((1, 2)).abs().max() < 1e-5
    clip[:, 8000:] = 0
    bands = FEATURES.features(clip, 16000)
    assert torch.allclose(bands.amax((1, 2)) - bands.amin((1, 2)), torch.full((3,), 6.0), atol=1e-5)


def test_clips_are_only_changed_in_training_and_by_the_generator_alone(words):
    plain = AugmentedSpeech(FEATURES, {}).load(words, "clean")
    changed = AugmentedSpeech(FEATURES, dict(RECIPE.source_of_data.strengths)).load(words, "clean")
    as_others = SpeechCommands(FEATURES).load(words, "clean")
    which = np.arange(5)
    for name in ("valid", "test"):
        ours, theirs = (splits.evaluated[name].batch(which, np.random.default_rng(0)) for splits in (changed, as_others))
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    expected = as_others.train.batch(which, np.random.default_rng(0))[0]
    found = plain.train.batch(which, np.random.default_rng(0))[0]
    assert (found - expected).abs().mean() < 1e-3  # but for the last sample, and the clips' 16 bits
    drawn = [changed.train.batch(which, np.random.default_rng(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and (drawn[0] - drawn[2]).abs().mean() > 0.1
    assert (drawn[0] - expected).abs().mean() > 0.1 and drawn[0].isfinite().all()
    assert plain.digest == changed.digest and len(changed.train) == 48 and changed.inputs == 20


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_augmentation_changes_clips_by_itself(words, name):
    strength = {"time_shift": 100.0}.get(name, 0.3)
    parts = [AugmentedSpeech(FEATURES, strengths).load(words, "clean").train for strengths in ({}, {name: strength})]
    plain, changed = (part.batch(np.arange(4), np.random.default_rng(3))[0] for part in parts)
    assert ((plain - changed).abs().amax((1, 2)) > 0.05).all() and changed.shape == plain.shape


def test_silence_stays_finite(tmp_path):
    folder = miniature_speech.make(tmp_path, clips_per_speaker=1)
    for path in sorted((folder / "rise").glob("*.flac")):
        soundfile.write(path, np.zeros(16000), 16000, format="FLAC")
    splits = AugmentedSpeech(FEATURES, dict(RECIPE.source_of_data.strengths)).load(folder, "clean")
    bands, _ = splits.train.batch(np.arange(len(splits.train)), np.random.default_rng(0))
    assert bands.isfinite().all()


@pytest.mark.parametrize(
    "asked, said",
    [
        ("loudness=1", "augmentation 'loudness': there are speed, time_shift"),
        ("speed=2", "speed=2: the number must be finite and between 0 and 1"),
        ("noise=-1", "noise=-1"),
        ("noise=nan", "noise=nan"),
        ("speed", "NAME=NUMBER"),
    ],
)
def test_an_augmentation_of_speech_that_makes_no_sense_is_refused(asked, said):
    with pytest.raises(OptionError, match=said):
        AugmentedSpeech(FEATURES, {}).with_options(argparse.Namespace(augment=asked))


def test_strengths_are_asked_for_one_by_one_and_tell_runs_apart():
    source = AugmentedSpeech(FEATURES, {"speed": 0.1, "noise": 0.5})
    asked = argparse.Namespace(augment="speed=0,time_mask=0.2")
    changed = source.with_options(asked)
    assert changed.settings["augmentation"] == {"noise": 0.5, "time_mask": 0.2} and changed.features == FEATURES
    assert changed.matches(asked, changed.settings) and not changed.matches(asked, source.settings)
    assert source.matches(argparse.Namespace(augment=None), changed.settings)
    assert source.changed({"augmentation": {"speed": 0.0}}).strengths == {"noise": 0.5}
    assert source.changed({"features": {"bands": 40}}).features.bands == 40


def test_events_of_any_source_are_counted_where_they_are():
    source, _ = BinnedEvents(Braille("theta2"), 10.0, {"time_shift": 50.0}).smoke()
    splits, of = source.load(None, "clean"), source.of.load(None, "clean")
    assert splits.inputs == 24 and splits.digest == of.digest
    counts, labels = splits.valid.batch(np.arange(6), np.random.default_rng(0))
    assert counts.shape == (6, 190, 24)
    for n in range(6):
        expected = np.zeros((190, 24), int)
        for time, unit in zip(*of.valid.sample(n), strict=True):
            expected[int(time // 10), unit] += 1
        assert counts[n].numpy().tolist() == expected.tolist() and labels[n] == of.valid.labels[n]
    drawn = [splits.train.batch(np.arange(6), np.random.default_rng(seed))[0] for seed in (0, 1)]
    assert not torch.equal(*drawn)
    given = argparse.Namespace(encoding="theta1", allow_silence=False, augment="time_shift=0,event_drop=0.1")
    other = BinnedEvents(Braille("theta2"), 10.0, {"time_shift": 50.0}).with_options(given)
    assert other.settings["braille"]["encoding"] == "theta1" and other.settings["augmentation"] == {"event_drop": 0.1}
    assert other.matches(given, other.settings) and not other.matches(given, source.settings)
    assert other.changed({"binning": {"dt": 5.0}}).settings == other.settings | {"binning": {"dt": 5.0}}
