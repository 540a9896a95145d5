"""Data sets as tonic, SpikingJelly and snnTorch hand them out: into networks, and into files that recipes read."""

import shutil
import zipfile
from functools import partial

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from recipes import write_recordings
from recipes.engine.data import binned, miniature
from recipes.engine.data.events import Sampling, ShdEvents
from recipes.engine.data.shd_files import open_events
from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents
from snn_delay_plugins.spikingjelly import DelayedLinear

TONIC = np.dtype([("t", int), ("x", int), ("p", int)])  # of tonic.datasets.SHD, whose times are in us
SIZES = {"train": 12, "test": 8}


class OfTonic:
    """As ``tonic.datasets.SHD`` reads a file: a list without an end of its own."""

    def __init__(self, path):
        self.file = h5py.File(path)
        self.speaker = self.file["extra/speaker"][:]

    def __len__(self):
        return len(self.file["labels"])

    def __getitem__(self, index):
        times, units = (self.file[f"spikes/{name}"][index] for name in ("times", "units"))
        events = np.zeros(len(times), TONIC)
        events["t"], events["x"], events["p"] = times.astype(float) * 1e6, units, 1
        return events, self.file["labels"][index].astype(int)


class OfSpikingJelly(OfTonic):
    """As its ``SpikingHeidelbergDigits``: times in seconds."""

    def __getitem__(self, index):
        times, units = (self.file[f"spikes/{name}"][index] for name in ("times", "units"))
        return {"t": times, "x": units}, int(self.file["labels"][index])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Plain files, as tonic leaves them beside the zipped ones."""
    made = miniature.make(tmp_path_factory.mktemp("miniature"), sizes=SIZES)
    for path in list(made.iterdir()):
        with open_events(path) as file, h5py.File(path.with_suffix(""), "w") as plain:
            for name in ("spikes", "labels", "extra"):
                file._file._file.copy(name, plain)
        path.unlink()
    return made


@pytest.mark.parametrize("of, scale", [(OfTonic, 1e-3), (OfSpikingJelly, 1e3)])
def test_a_loader_of_their_items_feeds_eventprop_and_layers_on_counts(folder, of, scale):
    data = of(folder / "miniature_train.h5")
    loader = DataLoader(data, 4, collate_fn=partial(SpikeEvents.collate, num_units=700, duration=1000.0, scale=scale))
    hidden = EventPropLIF(700, 6, delay="uniform", max_delay=10.0, weight_init=(2.0, 0.5))
    net = torch.nn.Sequential(hidden, EventPropLI(6, 4, readout="maximum"))
    seen = 0
    for events, labels in loader:
        torch.nn.functional.cross_entropy(net(events), labels).backward()
        counts = events.to_dense(10.0).float()
        assert counts.shape == (100, 4, 700) and DelayedLinear(700, 3, max_delay=5, step_mode="m")(counts).shape[2] == 3
        seen += len(events)
    assert seen == sum(len(data.file["spikes/times"][i]) for i in range(len(data)))
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


@pytest.mark.parametrize("of, scale, within", [(OfTonic, 1e-6, 1e-6), (OfSpikingJelly, 1.0, 0.0)])
def test_recipes_read_what_is_written_of_them(folder, tmp_path, of, scale, within):
    for split in SIZES:
        data = of(folder / f"miniature_{split}.h5")
        write_recordings(tmp_path / f"mine_{split}.h5", data, scale=scale, speakers=data.speaker)
    source = ShdEvents(Sampling(1000.0, resolution=None), {"none": None}, "none")
    theirs, ours = (source.load(place, "paper") for place in (folder, tmp_path))
    assert (ours.name, ours.classes, ours.inputs) == ("mine", theirs.classes, theirs.inputs)
    for one, two in ((theirs.train, ours.train), (theirs.test, ours.test)):
        (events, labels), (expected, of_them) = (
            part.batch(np.arange(len(part)), np.random.default_rng(0)) for part in (two, one)
        )
        assert labels.tolist() == of_them.tolist() and len(events) == len(expected)
        torch.testing.assert_close(events.times, expected.times, rtol=1e-6, atol=1e3 * within)


def test_frames_are_written_as_their_counts(tmp_path):
    frames = torch.zeros(10, 700)
    frames[3, 5], frames[7, 699] = 2, 1
    for split in SIZES:
        write_recordings(tmp_path / f"mine_{split}.h5", [(frames, 0, 0), (frames.roll(1, 0), 1, 1)], dt=0.01)
    part = binned.BinnedCounts(binned.Binning(duration=0.1, steps=10, group=1)).load(tmp_path, "paper").test
    counts, labels = part.batch(np.arange(2), np.random.default_rng(0))
    assert torch.equal(counts.float(), torch.stack([frames, frames.roll(1, 0)])) and labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "items, options, message",
    [
        ([(np.array([[0.1, 700]]), 0)], {}, r"sample 0: .* whole numbers in \[0, 700\), got 700"),
        ([(np.array([[0.1, 7]]), 0), (np.array([[0.1, 7]]), [1, 0])], {}, "sample 1: label must be a whole number"),
        ([np.array([[0.1, 7]])], {}, r"sample 0: expected \(events, label\)"),
        ([(np.full((3, 700), 0.5), 0)], {"dt": 0.01}, "sample 0: frames must hold whole numbers"),
        ([({"t": np.zeros(3), "x": np.zeros(2)}, 0)], {}, "sample 0: the fields must be arrays of one length"),
        ([(np.array([[0.1, 7]]), 0, 0), (np.array([[0.1, 7]]), 0)], {}, "1 of 2 samples say who spoke"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(items, options, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        write_recordings(tmp_path / "mine_train.h5", items, **options)
    assert not list(tmp_path.iterdir())


def test_zipped_files_are_read_as_they_are(folder, tmp_path):
    for path in folder.iterdir():
        with zipfile.ZipFile(tmp_path / f"{path.name}.zip", "w") as packed:
            packed.write(path, path.name)
    source = binned.BinnedCounts(binned.Binning(steps=10))
    assert source.load(tmp_path, "paper").digest == source.load(folder, "paper").digest
    shutil.copy(tmp_path / "miniature_test.h5.zip", tmp_path / "miniature_train.h5.zip")
    with pytest.raises(ValueError, match=r"miniature_train\.h5\.zip: no file miniature_train\.h5 in this archive"):
        source.load(tmp_path, "paper")
