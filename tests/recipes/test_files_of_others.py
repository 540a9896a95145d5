"""Data files from somebody else: what they say about other files is not followed, and a few bytes take no gigabytes."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import socket
import tarfile
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from recipes.engine.data import binned, events, shd_folder
from recipes.engine.data.binned import BinnedCounts, Binning
from recipes.engine.errors import DataError
from recipes.engine.files import archives, bounded, hdf5_files, numpy_files
from recipes.eventprop.braille import Braille

LISTS = {"times": [[0.1, 0.2], [0.3], [0.4], [0.5]], "units": [[1, 2], [3], [4], [5]]}


def write(path, change=lambda file: None, **storage):
    with h5py.File(path, "w") as file:
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            dataset = file.create_dataset(f"spikes/{name}", (4,), h5py.vlen_dtype(np.dtype(kind)), **storage)
            for i, values in enumerate(LISTS[name]):
                dataset[i] = np.asarray(values, kind)
        file["labels"], file["extra/speaker"] = [0, 1, 0, 1], [0, 0, 1, 1]
        change(file)
    return path


def refused(path, message):
    for read, settings in ((binned.read, Binning()), (events.read, events.Sampling())):
        with pytest.raises(DataError, match=message) as error:
            read(path, settings)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------- what names other files


def external_storage(name, target):
    def change(file):
        del file[name]
        file.create_dataset(name, (4,), np.uint64 if name != "spikes/times" else np.float16, external=[(target, 0, 32)])

    return change


def replaced(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


def virtual(name, target):
    def change(file):
        del file[name]
        layout = h5py.VirtualLayout((4,), np.uint64)
        layout[:] = h5py.VirtualSource(target, "labels", (4,), np.uint64)
        file.create_virtual_dataset(name, layout)

    return change


def endless_virtual(name, target):
    def change(file):
        del file[name]
        layout = h5py.VirtualLayout((4,), np.uint64, maxshape=(None,))
        source = h5py.VirtualSource(target, "labels", (4,), np.uint64, maxshape=(None,))
        layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
        file.create_virtual_dataset(name, layout)

    return change


def through_a_link(file):
    del file["labels"]
    file["elsewhere"], file["labels"] = h5py.ExternalLink("other.h5", "/"), h5py.SoftLink("/elsewhere/labels")


NAMES = ["labels", "extra/speaker", "spikes/times", "spikes/units", "extra/keys"]
HOW = {
    "storage": external_storage,
    "an external link": lambda name, target: replaced(name, h5py.ExternalLink(target, "labels")),
    "a virtual data set": virtual,
    "a virtual data set without end": endless_virtual,
}


@pytest.mark.parametrize("target", ["other.h5", "fifo", "nowhere"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", HOW)
def test_data_of_another_file_are_refused_unseen(tmp_path, monkeypatch, how, name, target):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "other.h5")
    os.mkfifo(tmp_path / "fifo")  # to open it is to wait for ever
    path = write(tmp_path / "x_train.h5", lambda file: file.create_dataset("extra/keys", data=np.zeros(4)))
    with h5py.File(path, "a") as file:
        HOW[how](name, target)(file)
    refused(path, f"{name} is kept in another file .*{target}.*, which is not read; copy it into this one")
    packed = tmp_path / "y_train.h5.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    refused(packed, f"{name} is kept in another file")


@pytest.mark.parametrize(
    "change",
    [replaced("extra", h5py.ExternalLink("other.h5", "extra")), replaced("spikes", h5py.ExternalLink("other.h5", "spikes")),
     through_a_link],
)  # fmt: skip
def test_groups_of_another_file_are_refused_too(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "other.h5")
    refused(write(tmp_path / "x_train.h5", change), r"is kept in another file \(other\.h5\)")


def test_links_within_the_file_are_followed_and_no_further(tmp_path):
    def within(file):
        file.move("labels", "kept/labels")
        file.move("spikes/times", "kept/times")
        file["labels"], file["spikes/times"] = h5py.SoftLink("kept/labels"), h5py.SoftLink("../spikes/same")
        del file["spikes/times"]
        file["spikes/same"] = h5py.SoftLink("/kept/times")
        file["spikes/times"] = h5py.SoftLink("same")

    assert binned.read(write(tmp_path / "x_train.h5", within), Binning()).labels.tolist() == [0, 1, 0, 1]
    circle = write(tmp_path / "y_train.h5", replaced("labels", h5py.SoftLink("/labels")))
    refused(circle, "labels leads through more than 16 links")
    refused(write(tmp_path / "z_train.h5", replaced("labels", h5py.SoftLink("/nowhere"))), "no dataset labels")


# ------------------------------------------------------------------------------------------------- what is too large


def declared(name, shape, dtype=np.uint64, **storage):
    def change(file):
        del file[name]
        file.create_dataset(name, shape, dtype, **storage)

    return change


def full_of_zeros(file):
    """A GiB of zeros in a chunk that is declared to hold four labels."""
    del file["labels"]
    dataset = file.create_dataset("labels", (4,), np.uint64, chunks=(4,), compression="gzip")
    dataset.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 30), 9))


LARGE = {
    "2**40 labels": (declared("labels", (1 << 40,)), r"labels has shape \(1099511627776,\)"),
    "2**40 lists": (declared("spikes/times", (1 << 40,), h5py.vlen_dtype(np.float16), chunks=(16,)), "times has shape"),
    "chunks of a gigabyte": (declared("labels", (1 << 24,), chunks=(1 << 24,), compression="gzip"), "chunks of 134217728"),
    "a shape of no numbers": (lambda f: replaced("labels", h5py.Empty("u8"))(f), "labels has shape None"),
    "a filter for lists": (
        declared("spikes/times", (4,), h5py.vlen_dtype(np.float16), chunks=(4,), compression="lzf"),
        r"spikes/times is stored with filters \[32000\]; read are \[1, 2\], once each",
    ),
    "a group of labels": (lambda f: (f.__delitem__("labels"), f.create_group("labels/x")), "no dataset labels"),
    "a single label": (lambda f: replaced("labels", 3)(f), "labels must be one integer per sample"),
    "lists of labels": (declared("labels", (4,), h5py.vlen_dtype(np.int64)), "labels must be one integer per sample"),
    "tables of lists": (declared("spikes/times", (4, 2), h5py.vlen_dtype(np.float16)), "spikes/times must hold one array"),
    "a list alone": (declared("spikes/times", (), h5py.vlen_dtype(np.float16)), "1 samples in spikes/times but 4 labels"),
    "a chunk that unfolds": (full_of_zeros, "labels has a chunk of 32 bytes that is compressed to 10"),
}  # fmt: skip


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_compressed_labels_are_read(tmp_path, compression):
    def change(file):
        del file["labels"]
        how = {"compression": compression, "shuffle": True, "fletcher32": True}
        file.create_dataset("labels", data=[0, 1, 0, 1], chunks=(2,), **how)

    assert binned.read(write(tmp_path / "x_train.h5", change), Binning()).labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("case", LARGE)
def test_what_a_file_declares_is_not_believed(tmp_path, case):
    change, message = LARGE[case]
    refused(write(tmp_path / "x_train.h5", change), message)


FILTERED = {"chunks": (3,), "compression": "gzip", "shuffle": True}


@pytest.mark.parametrize("storage", [{}, {"chunks": (3,)}, FILTERED])
def test_lists_are_no_longer_than_their_file(tmp_path, storage):
    path = write(tmp_path / "x_train.h5", **storage)
    assert binned.read(path, Binning()).counts[:].sum() == 5
    with hdf5_files.opened(path) as file:
        dataset = file.dataset("spikes/times")
        assert file._lengths("spikes/times", dataset)[:4].tolist() == [2, 1, 1, 1]
    if storage.get("compression"):
        return
    raw = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        times = file["spikes/times"].id
        start = times.get_offset() if not storage else times.get_chunk_info(0).byte_offset
    raw[start : start + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(raw)
    refused(path, "spikes/times declares 42949.* bytes .sample 0 has 4294967294 of them. in a file of")


def test_a_gzipped_file_is_unpacked_as_far_as_its_size_accounts_for(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded, "_ALWAYS", 1 << 20)
    path = tmp_path / "x_train.h5.gz"
    path.write_bytes(gzip.compress(bytes(16 << 20)))
    refused(path, "unpacks to more than 100 times its size; not unpacked")


def tar(opener, path, **members):
    with opener(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as packed:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            packed.addfile(about, io.BytesIO(content))


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)


PACKERS = {
    "zip": zipped,
    "tar": lambda path, **members: tar(open, path, **members),
    "tar.gz": lambda path, **members: tar(gzip.open, path, **members),
    "tar.bz2": lambda path, **members: tar(bz2.open, path, **members),
    "tar.xz": lambda path, **members: tar(lzma.open, path, **members),
}


@pytest.mark.parametrize("kind", PACKERS)
def test_archives_of_every_kind_are_unpacked(tmp_path, kind):
    PACKERS[kind](tmp_path / "archive", a=b"1" * 1000, b=b"2")
    archives.unpack(tmp_path / "archive", tmp_path / "inside")
    assert (tmp_path / "inside" / "a").read_bytes() == b"1" * 1000 and (tmp_path / "inside" / "b").read_bytes() == b"2"


@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind != "tar"])
@pytest.mark.parametrize("unpack", ["all", "one"])
def test_archives_of_zeros_are_refused_and_leave_nothing(tmp_path, monkeypatch, kind, unpack):
    monkeypatch.setattr(bounded, "_ALWAYS", 1 << 20)
    PACKERS[kind](tmp_path / "archive", a=bytes(8 << 20), b=bytes(8 << 20))
    with pytest.raises(DataError, match=r"archive: unpacks to more than 100 times its size; not unpacked"):
        if unpack == "all":
            archives.unpack(tmp_path / "archive", tmp_path / "inside" / "here")
        else:
            archives.unpack_file(tmp_path / "archive", "b", tmp_path / "inside" / "here")
    assert not (tmp_path / "inside").exists() or not list((tmp_path / "inside").iterdir())


def test_a_tar_with_an_endless_header_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded, "_ALWAYS", 1 << 20)
    about = tarfile.TarInfo("name")
    about.type, about.size = tarfile.XHDTYPE, 7 << 30
    (tmp_path / "archive").write_bytes(gzip.compress(about.tobuf(tarfile.USTAR_FORMAT) + bytes(32 << 20)))
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        archives.unpack(tmp_path / "archive", tmp_path / "here")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_names_that_no_disk_takes_are_one_line(tmp_path, kind):
    PACKERS[kind](tmp_path / "archive", **{"a" * 300: b"1"})
    with pytest.raises(DataError, match=r"archive: a name that cannot be written here \(File name too long\)"):
        archives.unpack(tmp_path / "archive", tmp_path / "here")


def test_damaged_xz_is_one_line(tmp_path):
    PACKERS["tar.xz"](tmp_path / "archive", a=os.urandom(1000))
    raw = (tmp_path / "archive").read_bytes()
    (tmp_path / "archive").write_bytes(raw[:500] + bytes(100) + raw[600:])
    with pytest.raises(DataError, match="archive: damaged"):
        archives.unpack(tmp_path / "archive", tmp_path / "here")


# ---------------------------------------------------------------------------------------------------- NumPy's files


def npy(shape, content=b"", descr="<f8"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + content


BRAILLE = {
    "times": np.tile(np.float32([0.1, 0.2]), 30), "channels": np.tile(np.uint8([3, 23]), 30),
    "offsets": np.arange(0, 61, 2), "labels": np.repeat(np.arange(3), 10),
}  # fmt: skip


def letters(path, **changes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, value in (BRAILLE | changes).items():
            if isinstance(value, np.ndarray):
                buffer = io.BytesIO()
                np.save(buffer, value)
                value = buffer.getvalue()
            packed.writestr(f"{name}.npy", value)


ARRAYS = {
    "a shape of 2**50": ({"times": npy((1 << 50,))}, "times declares 9007199254740992 bytes, but 128 are stored"),
    "an unread one": ({"other": npy((1 << 50,))}, "other declares 9007199254740992 bytes"),
    "a negative shape": ({"times": npy((-8,))}, "times declares -64 bytes|not a whole npz"),
    "zeros without end": ({"times": npy((1 << 22,), bytes(8 << 22))}, "unpacks to more than 100 times its size"),
    "times in a table": ({"times": np.full((30, 2), 0.1)}, r"times must be a list, not of shape \(30, 2\)"),
    "a single time": ({"times": np.array(0.1)}, r"times must be a list, not of shape \(\)"),
    "times as words": ({"times": np.array(["0.1"] * 60)}, r"times must be floats"),
    "complex times": ({"times": np.full(60, 0.1j)}, r"times must be floats"),
    "a time of years": ({"times": np.r_[np.full(59, 0.1), 1e9]}, r"sample 29 has the spike time 1000000000\.0 s; rec"),
    "offsets as floats": ({"offsets": np.arange(0, 61, 2) + np.nan}, "offsets must be integers, not float64"),
    "offsets as words": ({"offsets": np.array(["0"] * 31)}, "offsets must be integers"),
    "no offsets": ({"offsets": np.zeros(0, int)}, r"offsets must rise .* not as \[\] ... \[\] in 0"),
    "letters alone": ({"letters": np.array("A")}, "letters must be one name per letter"),
    "a label far away": ({"labels": np.r_[np.arange(29) % 3, 1 << 40]}, "no sample has label 3, but some have label 1"),
    "objects": ({"times": np.array([{}], object)}, "without pickled objects"),
    "records": ({"times": np.zeros(60, "f4,f4")}, "times must be floats"),
    "no array": ({"times": b"hello"}, "not a whole npz file"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_are_not_what_they_say_are_refused(tmp_path, monkeypatch, case):
    monkeypatch.setattr(bounded, "_ALWAYS", 1 << 20)
    changes, message = ARRAYS[case]
    letters(tmp_path / "braille_th10.npz")
    assert len(Braille().load(tmp_path, "clean").train) == 21
    letters(tmp_path / "braille_th10.npz", **changes)
    with pytest.raises(DataError, match=message) as error:
        Braille().load(tmp_path, "clean")
    assert "braille_th10.npz" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "taxels, message",
    [
        (np.full((30, 76, 12), "x"), "taxels must be numbers, not <U1"),
        (np.full((30, 76, 12), 1j), "taxels must be numbers, not complex128"),
        (np.tile(np.array([0.0, 1e12])[:, None], (30, 38, 12)), r"the traces would become 2\.\d+e\+16 events; at most"),
    ],
)
def test_traces_that_make_no_events_or_too_many_are_refused(tmp_path, taxels, message):
    np.savez(tmp_path / "braille_raw40hz_50rep.npz", taxels=taxels, labels=np.repeat(np.arange(3), 10))
    with pytest.raises(DataError, match=message):
        Braille("theta1").load(tmp_path, "clean")


def test_an_npy_file_is_what_it_says(tmp_path):
    path = tmp_path / "V_1.npy"
    np.save(path, np.arange(3.0))
    assert numpy_files.read_npy(path).tolist() == [0, 1, 2]
    for content, message in ((npy((1 << 50,)), "declares 9007199254740992"), (b"hello", "not a readable npy file")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            numpy_files.read_npy(path)


# ------------------------------------------------------------------------------------------------ what is not a file


def fifo(path):
    os.mkfifo(path)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the paths of sockets are short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


KINDS = {
    "a FIFO, not a file": fifo,
    "a socket, not a file": a_socket,
    "a folder, not a file": os.mkdir,
    "a device, not a file": lambda path: path.symlink_to("/dev/zero"),
    "a link to nowhere, which is not there": lambda path: path.symlink_to("nowhere"),
    "Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
}
READERS = {
    "x_train.h5": lambda folder: BinnedCounts(Binning()).load(folder, "paper"),
    "x_test.h5.gz": lambda folder: BinnedCounts(Binning()).load(folder, "paper"),
    "alone.h5": lambda folder: binned.read(folder / "alone.h5", Binning()),
    "events.h5": lambda folder: events.read(folder / "events.h5", events.Sampling()),
    "braille_th10.npz": lambda folder: Braille().load(folder, "clean"),
    "V_1.npy": lambda folder: numpy_files.read_npy(folder / "V_1.npy"),
    "archive": lambda folder: archives.unpack(folder / "archive", folder / "inside"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, name, kind):
    write(tmp_path / "x_train.h5")
    shutil.copy(tmp_path / "x_train.h5", tmp_path / "x_test.h5")
    (tmp_path / name.removesuffix(".gz")).unlink(missing_ok=True)
    KINDS[kind](tmp_path / name)
    with pytest.raises(DataError, match=kind) as error:
        READERS[name](tmp_path)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_one_file_for_training_and_testing_is_refused(tmp_path, link):
    write(tmp_path / "x_train.h5")
    link(tmp_path / "x_train.h5", tmp_path / "x_test.h5")
    with pytest.raises(DataError, match=r"the same file as .*; train and test need files of their own|test and train need"):
        shd_folder.find_files(tmp_path)
