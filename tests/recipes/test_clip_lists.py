"""Lists of clips as people and programs write them: every listed clip leaves the training set, or the list is refused."""

import os
import shutil
import socket

import numpy as np
import pytest
import soundfile

from recipes.engine.data.speech_commands import SpeechCommands, _split_files, _words
from recipes.engine.errors import DataError

NAMES = ["a", "b", "b one", "c", "d.e", "\u00e9t\u00e9"]


@pytest.fixture
def folder(tmp_path):
    for word in ("no", "yes"):
        (tmp_path / word).mkdir()
        for name in NAMES:
            soundfile.write(tmp_path / word / f"{name}.wav", np.zeros(160, np.float32), 16000)
    lists(tmp_path)
    return tmp_path


def lists(folder, valid=b"no/b.wav\nyes/b.wav\n", test=b"no/c.wav\nyes/c.wav\n"):
    (folder / "validation_list.txt").write_bytes(valid)
    (folder / "testing_list.txt").write_bytes(test)


def splits(folder):
    return {
        split: sorted(f"{path.parent.name}/{path.stem}" for path in paths)
        for split, paths in _split_files(folder, _words(folder)).items()
    }


WRITTEN = {
    "as published": b"no/b.wav\nyes/b.wav\n",
    "with a byte order mark": b"\xef\xbb\xbfno/b.wav\nyes/b.wav\n",
    "with Windows line ends": b"no/b.wav\r\nyes/b.wav\r\n",
    "with old line ends": b"no/b.wav\ryes/b.wav",
    "without a last line end": b"no/b.wav\nyes/b.wav",
    "with backslashes": b"no\\b.wav\nyes\\b.wav\n",
    "relative to here": b"./no/b.wav\n.\\yes\\b.wav\n",
    "with spaces around": b"  no/b.wav \n\n\tyes / b.wav\n",
    "in upper case": b"NO/B.WAV\nYes/b.Wav\n",
    "for other audio": b"no/b.flac\nyes/b.FLAC\n",
    "without suffixes": b"no/b\nyes/b\n",
    "twice": b"no/b.wav\nyes/b.wav\nno/b.wav\n",
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_list_is_read_however_it_is_written(folder, how):
    lists(folder, valid=WRITTEN[how])
    found = splits(folder)
    assert found["valid"] == ["no/b", "yes/b"] and found["test"] == ["no/c", "yes/c"]
    assert found["train"] == sorted(f"{word}/{name}" for word in ("no", "yes") for name in NAMES if name not in ("b", "c"))


@pytest.mark.parametrize("name", NAMES[1:])
def test_names_with_spaces_dots_and_accents_are_found(folder, name):
    for written in (name, name.replace("\u00e9", "e\u0301")):
        line = f"no/{written}.wav\nyes/{written}.wav\n".encode()
        lists(folder, valid=line, test=b"no/a.wav\nyes/a.wav\n")
        assert splits(folder)["valid"] == [f"no/{name}", f"yes/{name}"]


WRONG = {
    "a clip that is not there": (b"no/b.wav\nyes/z.wav\n", r"validation_list\.txt, line 2: 'yes/z' names no clip"),
    "another suffix": (b"no/b.mp3\n", r"line 1: 'no/b\.mp3' names no clip"),
    "half of a name": (b"no/b.wav\nyes/b.wav\nyes/b two.wav\n", r"line 3: 'yes/b two' names no clip"),
    "a clip of both lists": (b"no/b.wav\nyes/c.wav\n", r"ing_list\.txt, line 2: 'yes/c' is in validation_list\.txt too"),
    "the same in another case": (b"no/b.wav\nYES/C.wav\n", r"testing_list\.txt, line 2: 'yes/c' is in validation_list"),
    "a clip elsewhere": (b"../no/b.wav\n", r"line 1: '\.\./no/b\.wav' leads out of the folder"),
    "a clip anywhere": (b"/data/no/b.wav\n", "leads out of the folder"),
    "a clip of Windows": (b"C:\\no\\b.wav\n", "leads out of the folder"),
    "a clip below": (b"words/no/b.wav\n", "line 1: 'words/no/b.wav' is not the name of a clip, word/name.wav"),
    "a name alone": (b"b.wav\n", "is not the name of a clip"),
    "another encoding": ("no/b.wav\n".encode("utf-16"), r"validation_list\.txt: not a text in UTF-8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_list_that_would_put_its_clips_into_training_is_refused(folder, case):
    content, message = WRONG[case]
    lists(folder, valid=content)
    with pytest.raises(DataError, match=message):
        SpeechCommands().load(folder, "clean")


def test_a_clip_as_wav_and_as_flac_is_refused(folder):
    soundfile.write(folder / "yes" / "b.flac", np.zeros(160), 16000)
    with pytest.raises(DataError, match=r"b\.wav: this clip is there as b\.flac too"):
        splits(folder)


def test_a_line_that_names_two_clips_is_refused(folder):
    shutil.copy(folder / "no" / "b.wav", folder / "no" / "B.wav")
    assert splits(folder)["valid"] == ["no/b", "yes/b"]  # exactly
    lists(folder, valid=b"NO/b.wav\nyes/b.wav\n")
    with pytest.raises(DataError, match="line 1: 'NO/b' names 2 clips"):
        splits(folder)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_one_recording_under_two_names_is_refused(folder, link):
    link(folder / "no" / "c.wav", folder / "no" / "free.wav")
    with pytest.raises(DataError, match=r"free\.wav: the same file as .*no/c\.wav"):
        splits(folder)


@pytest.mark.parametrize("name", ["no/b.wav", "validation_list.txt"])
@pytest.mark.parametrize("kind", ["FIFO", "socket", "folder", "device", "dangling", "loop"])
def test_what_is_no_file_is_refused_at_once(folder, kind, name):
    path = folder / name
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(path.parent)  # the paths of sockets are short
            server.bind(path.name)
            os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to("nowhere")
    else:
        path.symlink_to(path.name)
    expected = {"dangling": "a link to nowhere, which is not there", "loop": "symbolic links"}
    with pytest.raises(DataError, match=expected.get(kind, f"a {kind}, not a file")) as error:
        SpeechCommands().load(folder, "clean")
    assert str(path) in str(error.value)
