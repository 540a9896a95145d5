"""Pickles from the web: arrays and tables are read, and nothing that a pickle says is run."""

import base64
import codecs
import functools
import os
import pickle
import subprocess
import sys
import tracemalloc
import types
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from recipes.engine.errors import DataError
from recipes.engine.files import plain_pickle
from recipes.eventprop import braille
from recipes.eventprop.braille import Braille, events_of


def events(i):
    """Events of a sample as they are published: times by taxel and polarity."""
    return [[[0.1 * (t + 1) + i, 0.5] if (t + i) % 3 == 0 else [], [0.25] if t == i else []] for t in range(12)]


# pandas.DataFrame({"letter": ["A", "Space", "Z"], "repetition": [0, 1, 2], "events": [events(i) for i in range(3)]}),
# pickled (protocol 4) by these versions of pandas.
TABLES = {
    "1.5.3": (
        "c-oaz&2G~`5RM(Elpj%52nZJroXUaRkT@WvP(%b4K`J+-$XYv-*s8s@ylYA%D#3x!N_*>YfJZ>Q06YUoT)A=L%z+CRV0N9TNz+v6*xH@l{bu%?)y"
        "%wf-rlTLjHuO&@h%gMAkCrC%UJ@bPTyma-8cF^UVnu<xTYL0>F21fPQoKDA?GX>jf8R5hg_gKcQ;Ohtw-gW%+;llg%?M@I50uA;uSoLf~^=lU)yN"
        "#MP4M?p!A*;v5Z)rvjKVaatKl`WL^YP18W9|>J<4lkbQJ3uW`fj@eOX`nrqQl9b&kmYF#<VbR^1-ZsFc;d0ti4ZEUyO5C4&v!L3O2_crR4kyxYI9"
        "?eL{YS}L$qQ!}SO~g^4{nAagYiYNxt;g_ecs^X!bixZ`GPWU8SN7v63NH>(Xle=_dT#3uUGOAhbb+#-B5jp_tNH1jmiMjZkCGO2u+{ul>I@93gVQ"
        "rveV?_Oi~ZTt(q9PstArejg)#esy~B*j)9)`@zAkj@pA$s$*F@7>1iNk>;dh4p9Ne79CajzV-fE0pIsxnDV_pt`GAg|0R$Qk{&T<^;j8gUKV(!9o"
        "5DlLR%DFQhhi&hH-lGf;Kd9PRH_f0+4FYGgyh@83CV!V=kW}g9D2EJWB%_q0T7qZ5r9e$eIb1iGb}`f?^HE(nicHRUU$fcN^8|zNbDQc<vRqQxD@"
        "VvQL#iiIfE3I41U*pSqUxuXrWudho0ouOCWH=E8IzJ4*AB7sdNJ!8^)id&bX$1cBBLT_61<rCKwWEB6n^7BDR=e{"
    ),
    "2.3.3": (
        "c-oazKW`H;6wh5Qq5Kh5g#=+?U@8MQA_k-YMMQ8SNM%EcEZ@b+oqFe-Y#${Om0%#WlD9qv_y~wE0G|OQRyHPP1{N0J*_WtE(^ToZll^S}-t+HS@4"
        "c7a+Z(lt6}^^I-lfuy27>uLK{E#W^gXKReXH-owO6nM>)In(Ux2<c4NtgYg40y`8RfLkgam!=ZaRpz9+hh}*B8eYBuzqjU;=uT6g*F&t(1|_*jO+"
        "xvV7<h>pm+|l~5t*5Zw~Nq5+pm6p=E>nni*>h0ZNxAA-tj*l<F41DmiOIQUgZ5U=W5R}FI$iguHmu(w;DSG98s+U@qke<*ecDhk5AjYefG&UkjmG"
        "vKja35x`2aSWg)(<Cx}@g_HLjN8C9V|+F~AFmlY@r4N)*OF;y_wfvc7l$Y`4TTQAw{r(Cc#>1RKs!$Xx5~fO{PfPq`&RQuNsD!$)%;fKlvz{<W@o"
        "heK5w-U`?F`HzZCXY2{{(aChQOP4l_nizrPsyy40<IP7uvs8%=K+>}}@=zjN#t;1)zSW#ujLRugRf1guw%c{#=~qvESUCGg7REXR?_DBYN?<}Q2A"
        "q#sg=Id_I|woM+GJ<Ra<gRV_<+YP$dAz(hstGKvs^S7Qdg{6*;1k0I9R5IY8>+BihN`fJ!J#IQoyBL|0`KT`+MMhBGH*7Y|JjEdX+{XG-R46Qa?M"
        "XGr0qY4BhKgf-GBaS~!s^GKW*ATU8_AfWHiQmV8C429*AB8Hy_EK?dWoj#U|W)Ikz<il#Yjp+hHYzC7NP$iC_eUZ"
    ),
}
SAMPLES = [{"letter": letter, "events": events(i)} for i, letter in enumerate(("A", "Space", "Z"))]


def in_blocks():
    """The same table as pandas before 1.3 pickles it, with classes of its names."""
    names = ("pandas", "pandas.core", "pandas.core.frame", "pandas.core.internals", "pandas.core.internals.managers",
             "pandas.core.indexes", "pandas.core.indexes.base")  # fmt: skip
    modules = {name: types.ModuleType(name) for name in names}

    def define(module, name, **methods):
        made = type(name, (), {"__module__": module, **methods})
        setattr(modules[module], name, made)
        return made

    base = "pandas.core.indexes.base"
    index = define(base, "Index", __reduce__=lambda self: (new, (type(self), {"data": self.data, "name": None})))

    def new(cls, about):
        raise AssertionError("not called here")

    new.__module__, new.__qualname__ = base, "_new_Index"
    modules[base]._new_Index = new
    manager = define("pandas.core.internals.managers", "BlockManager", __getstate__=lambda self: self.state)
    frame = define("pandas.core.frame", "DataFrame", __getstate__=lambda self: {"_mgr": self.mgr, "_typ": "dataframe"})
    columns, rows = index(), index()
    columns.data, rows.data = np.array(["letter", "repetition", "events"], object), np.arange(3)
    objects = np.empty((2, 3), object)
    for i, sample in enumerate(SAMPLES):
        objects[0, i], objects[1, i] = sample["letter"], sample["events"]
    blocks = [{"values": np.arange(3)[None], "mgr_locs": slice(1, 2, 1)}, {"values": objects, "mgr_locs": np.array([0, 2])}]
    table = frame()
    table.mgr = manager()
    table.mgr.state = ([columns, rows], [], [], {"0.14.1": {"axes": [columns, rows], "blocks": blocks}})
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(modules)
    try:
        return pickle.dumps(table)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def expected(i):
    found = [(time, 2 * t + p) for t, taxel in enumerate(events(i)) for p, ch in enumerate(taxel) for time in ch]
    return sorted(found, key=lambda event: event[0])


PICKLES = {version: zlib.decompress(base64.b85decode(text)) for version, text in TABLES.items()} | {
    "before 1.3": in_blocks(),
    "list": pickle.dumps(SAMPLES),
}


@pytest.mark.parametrize("version", PICKLES)
def test_published_tables_become_arrays_of_events_without_pandas(tmp_path, version, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # importing it would fail
    path = tmp_path / "events.pkl"
    path.write_bytes(PICKLES[version])
    arrays = events_of(path)
    assert arrays["labels"].tolist() == [1, 0, 26] and arrays["letters"][26] == "Z"
    for i in range(3):
        of_sample = slice(arrays["offsets"][i], arrays["offsets"][i + 1])
        times, channels = zip(*expected(i), strict=True)
        np.testing.assert_array_equal(arrays["times"][of_sample], np.float32(times))
        assert arrays["channels"][of_sample].tolist() == list(channels)


ARRAYS = {
    "numbers": np.arange(6.0).reshape(2, 3),
    "other order": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    "words": np.array(["Space", "A"]),
    "no rows": np.zeros((0, 3), np.uint8),
    "one number": np.float64(0.1),
    "objects": np.array([[1, 2], None, "x"], object),
    "bytes": b"\x00\xff",
}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_out_as_they_were(tmp_path, name, protocol):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": ARRAYS[name]}, protocol))
    read = plain_pickle.load(path)["a"]
    np.testing.assert_array_equal(read, ARRAYS[name])
    assert np.asarray(read).dtype == np.asarray(ARRAYS[name]).dtype


class Call:
    """Pickled, it is a call of this function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def global_(module, name):
    """Pickle of a name alone, by the instruction of protocol 4."""
    words = b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name))
    return b"\x80\x04" + words + b"\x93."


MARK = "/tmp/a pickle was run"
MALICIOUS = {
    "os.system": pickle.dumps(Call(os.system, f"touch '{MARK}'")),
    "eval": pickle.dumps(Call(eval, f"open({MARK!r}, 'w')")),
    "exec": pickle.dumps(Call(exec, f"open({MARK!r}, 'w')")),
    "Popen": pickle.dumps(Call(subprocess.Popen, ["touch", MARK])),
    "getattr": pickle.dumps(Call(getattr, "x", "upper")),
    "partial": pickle.dumps(functools.partial(print, "x")),
    "codec": pickle.dumps(Call(codecs.encode, "x", "rot13")),
    "in a table": pickle.dumps({"letter": ["A"], "events": [Call(os.system, f"touch '{MARK}'")]}),
    "in an array": pickle.dumps(np.array([Call(os.system, f"touch '{MARK}'")], object)),
    "old protocol": pickle.dumps(Call(os.system, f"touch '{MARK}'"), 0),
    "through a known name": global_("numpy", "ndarray.__subclasses__"),
    "numpy's own loader": global_("numpy", "load"),
    "pandas' own reader": global_("pandas", "read_pickle"),
    "import": global_("builtins", "__import__"),
    "outside the file": b"\x80\x04\x8c\x01xQ.",
}


@pytest.mark.parametrize("case", MALICIOUS)
def test_nothing_that_a_pickle_says_is_run(tmp_path, case):
    path = tmp_path / "evil.pkl"
    path.write_bytes(MALICIOUS[case])
    Path(MARK).unlink(missing_ok=True)
    for read in (plain_pickle.load, events_of):
        with pytest.raises(DataError, match=r"evil\.pkl: .*(which is not data|outside the file); nothing of it was run"):
            read(path)
    assert not Path(MARK).exists()


@pytest.mark.parametrize("content", [b"", b"garbage", PICKLES["list"][:100], pickle.dumps(3), pickle.dumps([])])
def test_what_is_not_a_table_of_events_is_an_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "events.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"events\.pkl: "):
        events_of(path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"letter": "Q7"}, "the letter 'Q7'"),
        ({"events": events(1)[:11]}, "sample 1 has 22 channels, not 24"),
        ({"events": [[["x"], []]] * 12}, "sample 1 has events that are not lists of times"),
        ({"events": None}, "sample 1 has events that are not lists of times"),
    ],
)
def test_a_malformed_sample_is_an_error_that_names_it(tmp_path, change, message):
    path = tmp_path / "events.pkl"
    path.write_bytes(pickle.dumps([SAMPLES[0], SAMPLES[1] | change, SAMPLES[2]]))
    with pytest.raises(DataError, match=rf"events\.pkl: {message}"):
        events_of(path)


def archive(path, **changes):
    """The published archive, with 30 samples of three letters."""
    samples = [{"letter": "ABC"[i % 3], "events": events(i % 12)} for i in range(30)]
    with zipfile.ZipFile(path, "w") as packed:
        for threshold in braille.THRESHOLDS:
            content = changes.get(f"th{threshold}", pickle.dumps(samples))
            packed.writestr(f"reading_braille_data/data_braille_letters_th_{threshold}.pkl", content)
    return path


@pytest.mark.parametrize("encoding", ["th1", "th2", "th5", "th10"])
def test_the_published_archive_becomes_files_that_are_read_without_pickle(tmp_path, encoding):
    braille.unpack(archive(tmp_path / "reading_braille_data.zip"), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "reading_braille_data.zip", "braille_th1.npz", "braille_th2.npz", "braille_th5.npz", "braille_th10.npz",
    }  # fmt: skip
    splits = Braille(encoding).load(tmp_path, "clean")
    assert splits.name == f"Braille-{encoding}"
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [21, 3, 6]


def test_an_archive_with_a_malicious_pickle_is_an_error_and_leaves_nothing_of_it(tmp_path):
    bad = archive(tmp_path / "reading_braille_data.zip", th2=MALICIOUS["os.system"])
    with pytest.raises(DataError, match=r"data\.zip: data_braille_letters_th_2\.pkl: holds posix\.system, which is not"):
        braille.unpack(bad, tmp_path)
    assert not (tmp_path / "braille_th2.npz").exists() and not Path(MARK).exists()


def named_again(first, times, push, mark=b"(", into=b"e"):
    """A list of ten of the list of ten of ... of ``first``: each by the number in the memo."""
    raw = push + b"q\0" + mark + first * 10 + into
    for i in range(1, times):
        raw += push + b"q" + bytes([i]) + mark + (b"h" + bytes([i - 1])) * 10 + into
    return raw


TUPLES = b"(" + b"K\x01" * 10 + b"tq\0" + b"".join(
    b"(" + (b"h" + bytes([i - 1])) * 10 + b"tq" + bytes([i]) for i in range(1, 12)
)  # fmt: skip
BOMBS = {
    "lists of lists": (named_again(b"K\x01", 12, b"]") + b".", "unfolds to more than 65536 items, 10 for each byte"),
    "tuples of tuples": (TUPLES + b".", "unfolds to more than"),
    "dictionaries": (b"}q\0" + b"".join(
        b"}q" + bytes([i]) + b"(" + b"".join(b"K" + bytes([k]) + b"h" + bytes([i - 1]) for k in range(10)) + b"u"
        for i in range(1, 12)
    ) + b".", "unfolds to more than"),
    "a key that takes for ever to hash": (b"}(" + TUPLES + b"K\x01u.", "keys that are neither numbers nor strings"),
    "a key, alone": (b"}" + TUPLES + b"K\x01s.", "keys that are neither numbers nor strings"),
    "a key of the old protocol": (b"(" + TUPLES + b"K\x01d.", "keys that are neither numbers nor strings"),
    "a set": (b"\x8f(" + TUPLES + b"\x90.", "holds a set"),
    "a frozen set": (b"(" + TUPLES + b"\x91.", "holds a set"),
    "itself": (b"]q\0h\0a.", "a list that holds itself"),
    "a deep list": (b"]" * 5000 + b"a" * 4999 + b".", "nested more than 100 deep"),
    "a deep tuple": (b")" + b"\x85" * 100_000 + b".", "nested more than 100 deep"),
    "a long string": (b"\x8d" + (1 << 40).to_bytes(8, "little") + b"x.", "damaged"),
    "long bytes": (b"\x8e" + (1 << 40).to_bytes(8, "little") + b"x.", "damaged"),
    "long mutable bytes": (b"\x96" + (1 << 40).to_bytes(8, "little") + b"x.", "declares 1099511627776 bytes"),
    "a long frame": (b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b"N.", "damaged|NoneType"),
    "a long number": (b"\x8b\xff\xff\xff\x7f\x01.", "damaged|int"),
    "a range of columns": (
        b"cpandas\nDataFrame\n)R}X\x04\0\0\0_mgrcpandas\nBlockManager\n(]](cpandas\nIndex\n"
        b"(K\0}(X\x05\0\0\0startK\0X\x04\0\0\0stop\x8a\x06\0\0\0\0\0\x40X\x04\0\0\0stepK\x01utRetRsb.",
        "names 70368744177664 columns",
    ),
    "an array of nothing": (
        b"cnumpy\n_reconstruct\n)R(K\1(\x8a\x06\0\0\0\0\0\x40K\0tcnumpy\ndtype\n(X\2\0\0\0f8tR\x89C\0tb.",
        "an array of shape",
    ),
    "a type of any size": (b"cnumpy\ndtype\n(X\x0a\0\0\0(99999,)i4tR.", "an array of records"),
    "a type that is a list": (b"cnumpy\ndtype\n(" + named_again(b"K\1", 12, b"]") + b"tR.", "an array of records"),
    "a text as bytes again and again": (
        b"c_codecs\nencode\nq\0X\x10\x27\0\0" + b"x" * 10_000 + b"q\1X\6\0\0\0latin1q\2]("
        + b"h\0h\1h\2\x86R" * 1000 + b"e.", "makes more bytes of its texts than 10 times its size",
    ),
    "a change of what reads": (b"c_codecs\nencode\n}X\1\0\0\0xK\1sb.", "changes what is not data; nothing of it was run"),
    "a change of a class": (b"cnumpy\nndarray\nN}X\1\0\0\0xK\1s\x86b.", "changes what is not data; nothing of it was run"),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_a_few_bytes_take_neither_gigabytes_nor_for_ever(tmp_path, case):
    content, message = BOMBS[case]
    path = tmp_path / "bomb.pkl"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message) as error:
            raise DataError(type(plain_pickle.load(path)).__name__)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_a_memo_may_be_numbered_as_it_likes(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"K\x07r\xff\xff\xff\x7f0j\xff\xff\xff\x7f.")
    assert plain_pickle.load(path) == 7


def test_values_that_are_named_twice_are_read(tmp_path):
    path, shared = tmp_path / "x.pkl", [1.5, 2.5]
    path.write_bytes(pickle.dumps({"a": [shared] * 20, "b": np.array([shared, shared], object)}))
    read = plain_pickle.load(path)
    assert read["a"] == [shared] * 20 and read["b"].tolist() == [shared, shared]


def test_a_fifo_is_no_pickle(tmp_path):
    os.mkfifo(tmp_path / "x.pkl")
    with pytest.raises(DataError, match=r"x\.pkl: a FIFO, not a file"):
        plain_pickle.load(tmp_path / "x.pkl")
