"""What the engine asks of every data set: one suite over all of them, new ones included."""

import argparse
import json
import pickle

import numpy as np
import pytest
import torch

from recipes.datasets import SOURCES
from recipes.engine.data.sources import CROSS_VALIDATION, PROTOCOLS
from recipes.engine.errors import DataError
from snn_delay_plugins import SpikeEvents


@pytest.fixture(scope="module", params=SOURCES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def source(name):
    return SOURCES[name]


@pytest.fixture(scope="module")
def miniature(source):
    """(source, folder) as ``--smoke`` has them."""
    return source.smoke()


def same(one, other) -> bool:
    if isinstance(one, SpikeEvents):
        return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("times", "units", "offsets"))
    return torch.equal(one, other)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_miniature_gives_the_same_splits_whenever_it_is_loaded(miniature, protocol):
    source, folder = miniature
    splits, again = source.load(folder, protocol), source.load(folder, protocol)
    assert splits.protocol == protocol and splits.digest == again.digest and len(splits.digest) == 16
    assert splits.criterion in {"test_accuracy", "train_accuracy", "valid_accuracy"} and splits.test is not None
    assert splits.valid is not None or protocol == "paper"
    for part in (splits.train, *splits.evaluated.values()):
        _, labels = part.batch(np.arange(len(part)), np.random.default_rng(0))
        assert labels.dtype == torch.int64 and sorted(set(labels.tolist())) == list(range(splits.classes))


def test_a_batch_follows_its_examples_and_its_random_numbers_alone(miniature):
    source, folder = miniature
    for part in source.load(folder, "clean").evaluated.values():
        whole, labels = part.batch(np.arange(6), np.random.default_rng(1))
        again, _ = part.batch(np.arange(6), np.random.default_rng(1))
        assert same(whole, again) and len(labels) == 6
        rows, few = part.batch(np.array([4, 2]), np.random.default_rng(1))
        assert few.tolist() == [labels[4], labels[2]]
        assert same(rows[0:1], whole[4:5]) and same(rows[1:2], whole[2:3])  # as several processes divide it


def test_its_settings_are_plain_values_and_another_process_gets_the_same(source):
    assert json.loads(json.dumps(source.settings)).keys() == source.settings.keys()
    assert all(isinstance(part, dict) for part in source.settings.values())
    assert pickle.loads(pickle.dumps(source)).settings == source.settings


def test_without_options_of_its_own_it_is_as_the_recipe_has_it(source):
    parser = argparse.ArgumentParser()
    source.add_options(parser)
    given = parser.parse_args([])
    assert source.with_options(given).settings == source.settings
    assert source.matches(given, json.loads(json.dumps(source.settings)))


def test_a_folder_that_is_not_there_or_empty_is_an_error_that_names_it(source, tmp_path):
    if source.folder is None:
        pytest.skip("these data are generated")
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError, match=str(tmp_path)):
            source.find(folder)


def test_generated_data_have_no_folder_and_nothing_to_download():
    for source in SOURCES.values():
        if source.folder is None:
            assert source.published is None and source.download(forbidden=True) is None


def test_speakers_are_left_out_where_they_are_known(miniature):
    source, folder = miniature
    if not source.names_speakers:
        pytest.skip("nobody is named")
    first, *others = source.folds(folder, 3)
    assert others and not set(first) & {speaker for group in others for speaker in group}
    splits = source.load_fold(folder, first)
    assert splits.protocol == CROSS_VALIDATION and splits.left_out == first and splits.test is None
    assert len(splits.train) > len(splits.valid) > 0
