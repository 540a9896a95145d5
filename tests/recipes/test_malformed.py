"""Every way in which data can be malformed, in each of the formats: an error that names the file and the sample.

A case is a change of good data and what the error has to say. Damaged containers (not HDF5, not gzip, not audio) are
cases like the others.
"""

import argparse
import gzip
import shutil

import h5py
import numpy as np
import pytest
import soundfile

from recipes.engine.data import miniature_speech, shd_files
from recipes.engine.data.binned import BinnedCounts, Binning
from recipes.engine.data.events import Sampling, ShdEvents
from recipes.engine.data.speech_commands import SpeechCommands
from recipes.engine.errors import DataError
from recipes.eventprop.braille import Braille
from snn_delay_plugins import SpikeEvents


def refused(source, folder, message, file):
    """Both protocols refuse the data, once and again: nothing of them is kept."""
    for protocol in ("clean", "paper", "clean"):
        with pytest.raises(DataError, match=message) as error:
            source.load(folder, protocol)
        assert str(folder / file) in str(error.value) and "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------- SHD's HDF5 format

GOOD = {
    "times": [[0.1, 0.2], [0.3], [0.4, 0.5, 0.6], [0.7]],
    "units": [[1, 2], [3], [4, 5, 699], [0]],
    "labels": [0, 1, 0, 1],
    "speakers": [0, 0, 1, 1],
    "keys": ["zero", "one"],
}


def write(path, times, units, labels, speakers=None, keys=None, times_type=np.float16, units_type=np.uint16):
    """A file in SHD's format; None leaves a dataset out."""
    with h5py.File(path, "w") as file:
        for name, arrays, kind in (("times", times, times_type), ("units", units, units_type)):
            if isinstance(arrays, np.ndarray):
                file[f"spikes/{name}"] = arrays
            elif arrays is not None:
                dataset = file.create_dataset(f"spikes/{name}", (len(arrays),), h5py.vlen_dtype(kind))
                for i, array in enumerate(arrays):
                    dataset[i] = np.asarray(array, kind)
        for name, values in (("labels", labels), ("extra/speaker", speakers)):
            if values is not None:
                file[name] = np.asarray(values)
        if keys is not None:
            file["extra/keys"] = np.array(keys, dtype=h5py.string_dtype())
    return path


def at(sample, **changes):
    """The good arrays with one sample changed."""
    return {name: [*GOOD[name][:sample], values, *GOOD[name][sample + 1 :]] for name, values in changes.items()}


HDF5 = {
    "no spikes/times": ({"times": None}, "no dataset spikes/times"),
    "no spikes/units": ({"units": None}, "no dataset spikes/units"),
    "no labels": ({"labels": None}, "no dataset labels"),
    "fewer labels than samples": ({"labels": [0, 1, 0]}, "4 samples in spikes/times but 3 labels"),
    "more labels than samples": ({"labels": [0, 1, 0, 1, 0]}, "4 samples in spikes/times but 5 labels"),
    "fewer unit arrays": ({"units": GOOD["units"][:3]}, "3 samples in spikes/units but 4 labels"),
    "fewer speakers": ({"speakers": [0]}, "1 samples in extra/speaker but 4 labels"),
    "unequal lengths in a sample": (at(1, units=[3, 4]), "sample 1 has 1 spike times but 2 units"),
    "unit 700": (at(2, units=[4, 700, 6]), "sample 2 has a spike of unit 700; units are 0 to 699"),
    "unit far beyond": (at(2, units=[4, 65535, 6]), "sample 2 has a spike of unit 65535"),
    "negative unit": (at(0, units=[-1, 2]) | {"units_type": np.int32}, "sample 0 has a spike of unit -1"),
    "NaN time": (at(1, times=[np.nan]), "sample 1 has the spike time nan"),
    "infinite time": (at(0, times=[0.1, np.inf]), "sample 0 has the spike time inf"),
    "negative time": (at(3, times=[-0.25]), r"sample 3 has a negative spike time \(-0.25 s\)"),
    "empty sample": (at(1, times=[], units=[]), r"sample 1 has no spikes in the first 1 s; .*--allow-silence"),
    "two empty samples": (
        {"times": [[], [0.1], [], [0.2]], "units": [[], [1], [], [2]]},
        r"2 samples \(numbers 0, 2\) have no spikes",
    ),
    "times in ms": (at(2, times=[400, 500, 600]), "sample 2 has no spikes in the first 1 s"),
    "time beyond every integer": (at(3, times=[1e300]) | {"times_type": np.float64}, "sample 3 has no spikes in the first"),
    "label beyond the keys": ({"labels": [0, 1, 2, 1]}, r"sample 2 has label 2, out of range: 0 to 1 \(extra/keys\)"),
    "negative label": ({"labels": [0, -1, 0, 1]}, "sample 1 has label -1, out of range"),
    "label beyond a gap": ({"labels": [0, 1, 7, 1], "keys": None}, "sample 2 has label 7, but no sample has label 2"),
    "labels as floats": ({"labels": [0.0, 1.0, 0.0, 1.0]}, "labels must be one integer per sample, not float64"),
    "labels as a table": ({"labels": np.zeros((4, 2), int)}, r"labels must be one integer per sample.*\(4, 2\)"),
    "times that are not lists": ({"times": np.zeros(4, np.float16)}, "spikes/times must hold one array of floats"),
    "times as integers": ({"times_type": np.int32}, "spikes/times must hold one array of floats"),
    "units as floats": ({"units_type": np.float32}, "spikes/units must hold one array of integers"),
    "no samples": ({"times": [], "units": [], "labels": np.zeros(0, int), "speakers": np.zeros(0, int)}, "no samples"),
}
SOURCES = {
    "counts": BinnedCounts(Binning()),
    "events": ShdEvents(Sampling(), {"none": None}, "none"),
    "exact events": ShdEvents(Sampling(resolution=None), {"none": None}, "none"),
}


@pytest.fixture
def shd(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / f"shd_{split}.h5", **GOOD)
    return tmp_path


@pytest.mark.parametrize("source", SOURCES)
def test_good_recordings_are_read(shd, source):
    splits = SOURCES[source].load(shd, "clean")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [2, 2, 4]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("case", HDF5)
def test_malformed_recordings_are_refused(shd, source, case):
    change, message = HDF5[case]
    write(shd / "shd_train.h5", **(GOOD | change))
    refused(SOURCES[source], shd, message, "shd_train.h5")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels": [0, 1, 3, 1], "keys": None}, "sample 2 has label 3, out of range: the training file has classes 0"),
        (at(1, times=[np.nan]), "sample 1 has the spike time nan"),
        (at(1, times=[], units=[]), "sample 1 has no spikes"),
    ],
)
def test_a_malformed_test_file_is_refused_by_its_name(shd, source, change, message):
    write(shd / "shd_test.h5", **(GOOD | change))
    refused(SOURCES[source], shd, message, "shd_test.h5")


def test_256_spikes_in_a_bin_do_not_overflow(shd):
    write(shd / "shd_train.h5", **(GOOD | at(1, times=[0.5] * 256, units=[3] * 256)))
    refused(SOURCES["counts"], shd, "sample 1 has 256 spikes in one bin; 255 fit", "shd_train.h5")


def test_the_sample_is_counted_from_the_start_of_the_file(shd, monkeypatch):
    monkeypatch.setattr(shd_files, "_CHUNK", 2)
    for source in SOURCES.values():
        for message, change in {"spike of": {"units": [701]}, "no spikes": {"times": [], "units": []}}.items():
            write(shd / "shd_train.h5", **(GOOD | at(3, **change)))
            refused(source, shd, rf"sample 3 has (a )?{message}", "shd_train.h5")


@pytest.mark.parametrize("source", SOURCES)
def test_empty_samples_can_be_allowed(shd, source):
    write(shd / "shd_train.h5", **(GOOD | at(1, times=[], units=[])))
    source = SOURCES[source].with_options(argparse.Namespace(allow_silence=True, augmentation=None))
    batch, _ = source.load(shd, "paper").train.batch(np.array([1, 2]), np.random.default_rng(0))
    counts = batch.counts() if isinstance(batch, SpikeEvents) else batch.flatten(1)
    assert counts.sum(1).tolist() == [0, 3]


@pytest.mark.parametrize("suffix", [".h5", ".h5.gz"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated"])
def test_a_damaged_file_is_refused(shd, suffix, damage):
    many = {"times": [[0.1] * 500] * 50, "units": [[1] * 500] * 50, "labels": [0] * 50, "speakers": range(50)}
    whole = write(shd / "whole", **many).read_bytes()
    whole = gzip.compress(whole) if suffix == ".h5.gz" else whole
    content = {"empty": b"", "garbage": b"garbage" * 50, "truncated": whole[: len(whole) // 2]}[damage]
    (shd / "shd_train.h5").unlink()
    (shd / f"shd_train{suffix}").write_bytes(content)
    message = {"empty": "the file is empty"}.get(damage, "not an HDF5 file" if suffix == ".h5" else "not a whole gzip file")
    refused(SOURCES["counts"], shd, message, f"shd_train{suffix}")


@pytest.mark.parametrize("source", [*SOURCES.values(), SpeechCommands()], ids=[*SOURCES, "audio"])
def test_a_directory_without_files_is_refused(tmp_path, source):
    expected = "no spike recordings here|expected one subfolder of WAV or FLAC files per word, found 0"
    refused(source, tmp_path, expected, "")
    refused(source, tmp_path / "nowhere", "no such folder", "")
    (tmp_path / "file").touch()
    refused(source, tmp_path / "file", "no such folder", "")


def test_a_folder_with_half_a_data_set_or_two_is_refused(shd):
    shutil.copy(shd / "shd_train.h5", shd / "ssc_train.h5")
    refused(SOURCES["counts"], shd, "several data sets; name one of", "")
    (shd / "shd_test.h5").unlink()
    (shd / "ssc_train.h5").unlink()
    refused(SOURCES["counts"], shd, r"shd_test\.h5\[\.gz\] is missing", "")


# --------------------------------------------------------------------------------------------------------- audio


@pytest.fixture
def words(tmp_path):
    return miniature_speech.make(tmp_path / "words", clips_per_speaker=1)


CLIP = "rise/00000003_nohash_0.flac"
AUDIO = {
    "wrong rate": (lambda path: soundfile.write(path, np.zeros(8000), 8000), "recorded at 8000 Hz; expected 16000 Hz"),
    "zero length": (lambda path: soundfile.write(path, np.zeros(0), 16000, format="WAV"), "zero length"),
    "stereo": (lambda path: soundfile.write(path, np.zeros((9, 2)), 16000), "2 channels; expected mono"),
    "not a number": (
        lambda path: soundfile.write(path, np.array([0, np.nan]), 16000, format="WAV", subtype="FLOAT"),
        "samples that are not finite",
    ),
    "no audio": (lambda path: path.write_bytes(b"noise"), "not a readable audio file"),
    "empty file": (lambda path: path.write_bytes(b""), "not a readable audio file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:30]), "not a readable audio file"),
}


@pytest.mark.parametrize("case", AUDIO)
def test_malformed_clips_are_refused(words, case):
    damage, message = AUDIO[case]
    damage(words / CLIP)
    refused(SpeechCommands(), words, message, CLIP)


FOLDERS = {
    "no validation list": (lambda folder: (folder / "validation_list.txt").unlink(), "validation_list.txt: no such file"),
    "no testing list": (lambda folder: (folder / "testing_list.txt").unlink(), "testing_list.txt: no such file"),
    "empty list": (lambda folder: (folder / "testing_list.txt").write_text(""), "no clips for test"),
    "one word": (lambda folder: [shutil.rmtree(folder / word) for word in ("rise", "fall")], "one subfolder.*found 1"),
    "words without clips": (
        lambda folder: [path.unlink() for path in folder.rglob("*.flac")],
        "one subfolder of WAV or FLAC files per word, found 0",
    ),
    "a word without test clips": (
        lambda folder: [path.unlink() for i in range(20, 26) for path in folder.glob(f"rise/{i:08x}*")],
        "no clip of 'rise' for test",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_malformed_folders_of_audio_are_refused(words, case):
    damage, message = FOLDERS[case]
    damage(words)
    refused(SpeechCommands(), words, message, "")


# ------------------------------------------------------------------------------------------------------- Braille

EVENTS = {
    "no times": ({"times": None}, "no array times; found channels, labels, letters, offsets"),
    "no labels": ({"labels": None}, "no array labels"),
    "NaN time": ({"times": np.r_[np.full(59, 0.1), np.nan]}, "sample 29 has the spike time nan"),
    "negative time": ({"times": np.r_[-1.0, np.full(59, 0.1)]}, r"sample 0 has the spike time -1\.0"),
    "times as integers": ({"times": np.ones(60, int)}, r"times must be floats \(s\)"),
    "channel 24": ({"channels": np.r_[np.zeros(5, int), 24, np.zeros(54, int)]}, "sample 2 has a spike of channel 24"),
    "negative channel": ({"channels": np.r_[np.zeros(5, int), -1, np.zeros(54, int)]}, "sample 2 has a spike of channel"),
    "channels as floats": ({"channels": np.zeros(60)}, "channels integers, not .* and float64"),
    "fewer channels": ({"channels": np.zeros(59, int)}, "60 times but 59 channels"),
    "falling offsets": ({"offsets": np.r_[0, 4, 2, np.arange(6, 61, 2)]}, "offsets must rise from 0"),
    "fewer offsets": ({"offsets": np.arange(0, 59, 2)}, "offsets must rise from 0"),
    "empty sample": ({"offsets": np.r_[0, 2, 2, np.arange(6, 61, 2)]}, "sample 1 has no spikes .*--allow-silence"),
    "label beyond the letters": ({"labels": np.r_[np.arange(29) % 3, 3]}, "sample 29 has label 3, out of range: 0 to 2"),
    "negative label": ({"labels": np.r_[-1, np.arange(29) % 3]}, "sample 0 has label -1, out of range"),
    "labels as floats": ({"labels": np.zeros(30)}, "labels must be one integer per sample"),
    "no samples": ({"labels": np.zeros(0, int)}, "labels must be one integer per sample"),
    "pickled objects": ({"letters": np.array([{}], object)}, "without pickled objects"),
}
TRACES = {
    "no taxels": ({"taxels": None}, "no array taxels"),
    "11 taxels": ({"taxels": np.zeros((30, 76, 11), np.uint8)}, r"taxels must be \[30 samples, steps, 12\]"),
    "fewer samples": ({"taxels": np.zeros((29, 76, 12), np.uint8)}, r"taxels must be \[30 samples, steps, 12\]"),
    "one step": ({"taxels": np.zeros((30, 1, 12), np.uint8)}, r"taxels must be \[30 samples, steps, 12\]"),
    "no steps": ({"taxels": np.zeros((30, 12), np.uint8)}, r"taxels must be \[30 samples, steps, 12\]"),
    "NaN": ({"taxels": np.full((30, 76, 12), np.nan)}, "sample 0 has a taxel value that is not a number"),
    "a trace without events": ({"taxels": np.zeros((30, 76, 12), np.uint8)}, r"30 samples \(numbers 0, 1, .* no spikes"),
    "label beyond the letters": ({"labels": np.r_[np.arange(29) % 3, 3]}, "sample 29 has label 3, out of range"),
}


def recordings(**changes):
    arrays = {
        "times": np.tile(np.array([0.1, 0.2], np.float32), 30),
        "channels": np.tile(np.array([3, 23], np.uint8), 30),
        "offsets": np.arange(0, 61, 2, dtype=np.int32),
        "taxels": (100 + np.random.default_rng(0).integers(0, 50, (30, 76, 12))).astype(np.uint8),
        "labels": np.repeat(np.arange(3), 10).astype(np.uint8),
        "letters": np.array(["Space", "A", "B"]),
    } | changes
    return {name: array for name, array in arrays.items() if array is not None}


BRAILLE = {f"events: {case}": ("th10", "braille_th10.npz", change) for case, change in EVENTS.items()} | {
    f"traces: {case}": ("theta1", "braille_raw40hz_50rep.npz", change) for case, change in TRACES.items()
}


@pytest.mark.parametrize("case", BRAILLE)
def test_malformed_letters_are_refused(tmp_path, case):
    encoding, file, (change, message) = BRAILLE[case]
    other = "taxels" if encoding == "th10" else "times"
    np.savez(tmp_path / file, **recordings(**({other: None} | change)))
    refused(Braille(encoding), tmp_path, message, file)


@pytest.mark.parametrize("encoding", ["th10", "theta1"])
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "truncated", "changed", "pickle"])
def test_a_damaged_file_of_letters_is_refused(tmp_path, encoding, damage):
    path = Braille(encoding)._path(tmp_path)
    np.savez_compressed(path, **recordings())
    whole = path.read_bytes()
    content = {
        "empty": b"", "garbage": b"garbage", "truncated": whole[: len(whole) // 2],
        "changed": whole[:300] + bytes(255 - b for b in whole[300:400]) + whole[400:],
        "pickle": b"\x80\x04cposix\nsystem\n\x8c\x02id\x85R.",
    }.get(damage)  # fmt: skip
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    refused(Braille(encoding), tmp_path, "no such file" if damage == "missing" else "not a whole npz file", path.name)


def test_letters_without_events_can_be_allowed(tmp_path):
    np.savez(tmp_path / "braille_th10.npz", **recordings(offsets=EVENTS["empty sample"][0]["offsets"]))
    assert len(Braille("th10", allow_silence=True).load(tmp_path, "clean").train) == 21
    assert Braille("th10", allow_silence=True).settings == Braille("th10").settings
