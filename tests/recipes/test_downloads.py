"""Downloads, against a local HTTP server in the place of the download sites (which no test reaches)."""

import dataclasses
import errno
import gzip
import hashlib
import io
import lzma
import os
import pickle
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pooch", reason="pooch is missing: pip install 'snn_delay_plugins[recipes]'")

from recipes import datasets
from recipes.__main__ import main
from recipes.deckers_table1 import RECIPE
from recipes.engine.data import heidelberg, miniature_speech, speech_commands
from recipes.engine.data.binned import BinnedCounts, Binning
from recipes.engine.data.speech_commands import SpeechCommands
from recipes.engine.errors import DataError
from recipes.engine.files import archives, downloads
from recipes.engine.files.downloads import DownloadError, Published, RemoteFile, obtain

ROOT = Path(__file__).parents[2]
CONTENT = np.random.default_rng(0).bytes(1_000_000)


class Site(ThreadingHTTPServer):
    """Serves ``files``. What goes wrong is said per request, in order: ``cut`` is after how many bytes the connection
    breaks, ``status`` the code of the answer; None: nothing goes wrong."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.cut, self.status, self.asked = {}, [], [], []
        self.ranges, self.length, self.version, self.pause, self.encoding = True, True, None, 0.0, None

    def handle_error(self, request, client_address):
        """A client that was killed is no news."""

    def url(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        site, name = self.server, self.path.strip("/")
        site.asked.append((name, self.headers.get("Range")))
        cut = site.cut.pop(0) if site.cut else None
        status = site.status.pop(0) if site.status else None
        content = site.files.get(name)
        if status or content is None:
            self.send_response(status or 404)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start, wanted = 0, self.headers.get("Range")
        if site.ranges and wanted and self.headers.get("If-Range", site.version) == site.version:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if site.length:
            self.send_header("Content-Length", str(len(content) - start))
        if site.version:
            self.send_header("ETag", site.version)
        if site.encoding:
            self.send_header("Content-Encoding", site.encoding)
        self.close_connection = not site.length or cut is not None
        self.end_headers()
        end = len(content) if cut is None else start + cut
        for piece in range(start, end, 50_000):
            self.wfile.write(content[piece : min(piece + 50_000, end)])
            self.wfile.flush()
            time.sleep(site.pause)


@pytest.fixture
def site():
    with Site() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SNN_DELAY_PLUGINS_OFFLINE", "0")
    monkeypatch.setattr(downloads, "_PAUSE", 0.01)
    return tmp_path / "data" / "Digits"


def md5(content):
    return f"md5:{hashlib.md5(content).hexdigest()}"


def digits(*urls, content=CONTENT, known="md5", **changes):
    file = RemoteFile("digits.bin", urls, md5(content) if known == "md5" else known, **changes)
    return Published("Digits", "https://example.org/digits", "CC BY 4.0", (file,))


@pytest.fixture
def published(site):
    site.files["digits.bin"] = CONTENT
    return digits(site.url("digits.bin"))


def only_whole(place, *names):
    """Nothing but these files, and empty locks, is there."""
    found = {path.name for path in place.iterdir() if path.stat().st_size or path.is_dir()}
    assert found == set(names)


# ------------------------------------------------------------------------------------------------ what goes well


def test_a_missing_file_is_downloaded_after_saying_so(published, place, caplog):
    caplog.set_level("INFO")
    assert obtain(published) == place
    assert (place / "digits.bin").read_bytes() == CONTENT
    assert "Digits is not in" in caplog.text and "https://example.org/digits, CC BY 4.0" in caplog.text
    assert os.stat(place / "digits.bin").st_mode & 0o044 == 0o044  # others may read it
    only_whole(place, "digits.bin")


def test_a_file_that_is_there_is_not_asked_for(published, place, site, caplog):
    place.mkdir(parents=True)
    (place / "digits.bin").write_bytes(CONTENT)
    caplog.set_level("INFO")
    obtain(published)
    obtain(published, forbidden=True)
    assert site.asked == [] and caplog.text == ""


def test_gzipped_files_are_kept_as_they_are(site, place):
    packed = gzip.compress(CONTENT)
    site.files["digits.bin"], site.encoding = packed, "gzip"  # as some servers label .gz files
    obtain(digits(site.url("digits.bin"), content=packed))
    assert (place / "digits.bin").read_bytes() == packed


@pytest.mark.parametrize("length", [True, False])
def test_the_next_address_is_tried_where_the_first_fails(site, place, length):
    site.files |= {"good/digits.bin": CONTENT, "bad/digits.bin": CONTENT[:-1] + b"x"}
    site.length = length
    obtain(digits(site.url("none/digits.bin"), site.url("bad/digits.bin"), site.url("good/digits.bin")))
    assert (place / "digits.bin").read_bytes() == CONTENT


# ------------------------------------------------------------------------------------------------ interruptions


def test_an_interrupted_download_is_continued(published, place, site):
    site.cut = [300_000, 400_000]
    obtain(published)
    assert (place / "digits.bin").read_bytes() == CONTENT
    starts = [asked and int(asked.removeprefix("bytes=").removesuffix("-")) for _, asked in site.asked]
    assert starts == [None, 300_000, 700_000]
    only_whole(place, "digits.bin")


def test_a_server_that_cannot_continue_sends_the_file_again(published, place, site):
    site.cut, site.ranges = [300_000], False
    obtain(published)
    assert (place / "digits.bin").read_bytes() == CONTENT


def test_a_server_that_is_busy_is_asked_again(published, place, site):
    site.status = [503, 429]
    obtain(published)
    assert (place / "digits.bin").read_bytes() == CONTENT


def test_a_download_that_always_breaks_is_an_error_and_the_next_run_continues(published, place, site):
    site.cut = [300_000] + [0] * downloads._TRIES
    with pytest.raises(DownloadError, match=r"digits\.bin: the connection .* By hand: put http"):
        obtain(published)
    assert not (place / "digits.bin").exists()
    site.cut, site.asked = [], []
    obtain(published)
    assert site.asked == [("digits.bin", "bytes=300000-")]
    assert (place / "digits.bin").read_bytes() == CONTENT


def test_a_server_that_says_nothing_is_an_error(published, site, monkeypatch):
    monkeypatch.setattr(downloads, "_TIMEOUT", (1, 0.1))
    monkeypatch.setattr(downloads, "_TRIES", 2)
    site.pause = 1.0
    with pytest.raises(DownloadError, match=r"digits\.bin: (no answer|the connection broke)"):
        obtain(published)


def test_a_file_that_changed_between_two_parts_is_not_pieced_together(site, place):
    site.files["digits.bin"], site.version, site.cut = CONTENT, '"old"', [300_000]
    other = CONTENT[::-1]
    published = digits(site.url("digits.bin"), content=other)
    changed = threading.Event()

    def change():
        while not site.asked:
            time.sleep(0.001)
        site.files["digits.bin"], site.version = other, '"new"'
        changed.set()

    threading.Thread(target=change).start()
    obtain(published)
    assert changed.is_set() and (place / "digits.bin").read_bytes() == other


def left_behind(place, content):
    """As a killed download leaves it."""
    staging = place / ".digits.bin.download"
    staging.mkdir(parents=True)
    (staging / "part").write_bytes(content)
    (staging / "tmpabc").write_bytes(b"half")


@pytest.mark.parametrize(
    "content", [CONTENT[:1000], CONTENT, CONTENT + b"more", b"another file", b""], ids=lambda c: len(c)
)
def test_whatever_an_earlier_attempt_left_the_right_file_comes_out(published, place, content):
    left_behind(place, content)
    obtain(published)
    assert (place / "digits.bin").read_bytes() == CONTENT
    only_whole(place, "digits.bin")


def test_a_part_without_a_known_hash_is_only_continued_if_the_server_vouches_for_it(site, place):
    site.files["digits.bin"] = CONTENT
    left_behind(place, b"another file")
    obtain(digits(site.url("digits.bin"), known=None))
    assert site.asked == [("digits.bin", None)] and (place / "digits.bin").read_bytes() == CONTENT


DOWNLOAD = """
import sys
from recipes.engine.files import downloads
downloads._PAUSE = 0.01
file = downloads.RemoteFile("digits.bin", (sys.argv[1],), sys.argv[2])
data = downloads.Published("Digits", "https://example.org/digits", "CC BY 4.0", (file,))
print((downloads.obtain(data) / "digits.bin").stat().st_size)
"""


def download(published):
    (file,) = published.files
    command = [sys.executable, "-c", DOWNLOAD, file.urls[0], file.hash]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_download_is_continued_by_the_next_process(published, place, site):
    site.pause, part = 0.05, place / ".digits.bin.download" / "part"
    process, deadline = download(published), time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 100_000):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (place / "digits.bin").exists()
    site.pause, site.asked = 0.0, []
    obtain(published)
    ((_, asked),) = site.asked
    assert int(asked.removeprefix("bytes=").removesuffix("-")) > 100_000
    assert (place / "digits.bin").read_bytes() == CONTENT
    only_whole(place, "digits.bin")


def test_two_processes_download_a_file_once(published, place, site):
    site.pause = 0.1
    processes = [download(published) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [out for out, _ in results] == ["1000000\n"] * 2, results
    assert site.asked == [("digits.bin", None)] and (place / "digits.bin").read_bytes() == CONTENT


# ----------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "sent",
    [CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), CONTENT[:500], b"", b"<html>please log in</html>"],
    ids=["corrupted", "truncated", "empty", "something else"],
)
@pytest.mark.parametrize("length", [True, False], ids=["with length", "without length"])
def test_a_file_with_another_hash_is_an_error_and_never_used(published, place, site, sent, length):
    site.files["digits.bin"], site.length = sent, length
    with pytest.raises(DownloadError, match=r"not the file that was expected .*hash") as error:
        obtain(published)
    assert str(error.value).count("\n") == 0 and site.url("digits.bin") in str(error.value)
    assert not (place / "digits.bin").exists()


def test_a_missing_file_is_an_error_that_says_what_to_do(published, place, site):
    site.files.clear()
    with pytest.raises(DownloadError, match=r"Digits: .*HTTP 404.* By hand: put http.* into .*Digits, or .*--data-dir"):
        obtain(published)
    assert len(site.asked) == 1  # asking again would not help


def test_no_connection_is_an_error_that_says_what_to_do(place, monkeypatch):
    monkeypatch.setattr(downloads, "_TRIES", 2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(DownloadError, match=r"no connection .* By hand: put http"):
        obtain(digits(f"http://127.0.0.1:{port}/digits.bin"))


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_a_missing_file_is_an_error_and_nothing_is_asked_for(published, place, site, how, monkeypatch):
    if how == "environment":
        monkeypatch.setenv("SNN_DELAY_PLUGINS_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"digits\.bin is missing, and downloads are forbidden; put http"):
        obtain(published, forbidden=how == "option")
    assert site.asked == [] and not place.exists()


def test_a_damaged_file_is_downloaded_anew_but_is_an_error_offline(published, place, caplog):
    place.mkdir(parents=True)
    (place / "digits.bin").write_bytes(CONTENT[:-5])
    with pytest.raises(DownloadError, match=r"digits\.bin: its md5 is .*, not .*forbidden"):
        obtain(published, forbidden=True)
    obtain(published)
    assert "downloading it anew" in caplog.text and (place / "digits.bin").read_bytes() == CONTENT


def test_a_disk_without_room_is_an_error_before_anything_is_written(published, place, monkeypatch):
    usage = type("usage", (), {"free": 999_999})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"no space left .*SNN_DELAY_PLUGINS_DATA"):
        obtain(published)
    assert not (place / "digits.bin").exists()


def test_a_folder_that_cannot_be_written_is_an_error(published, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(downloads.atomic, "locked", refuse)
    with pytest.raises(DownloadError, match=r"cannot be written; set SNN_DELAY_PLUGINS_DATA"):
        obtain(published)


def test_without_a_published_hash_the_first_one_is_recorded_and_checked_from_then_on(site, place, caplog):
    published = digits(site.url("digits.bin"), known=None)
    site.files["digits.bin"] = CONTENT
    caplog.set_level("INFO")
    obtain(published)
    found = hashlib.sha256(CONTENT).hexdigest()
    assert "we know of no published hash" in caplog.text and found in caplog.text
    assert (place / "digits.bin.sha256").read_text() == f"{found}  digits.bin\n"
    (place / "digits.bin").unlink()
    site.files["digits.bin"] = b"something else"
    with pytest.raises(DownloadError, match="not the file that was expected"):
        obtain(published)


# --------------------------------------------------------------------------------------------------- archives


def packed(kind, members):
    """An archive of {name: content}; content None makes a link to /etc/passwd."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = (0o120777 if content is None else 0o100644) << 16
                archive.writestr(info, b"/etc/passwd" if content is None else content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                if content is None:
                    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                    archive.addfile(info)
                else:
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


WORDS = {"./yes/a.wav": b"yes" * 1000, "./no/b.wav": b"no" * 1000, "testing_list.txt": b"yes/a.wav\n"}


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_unpacked_whole(site, place, kind):
    content = packed(kind, WORDS)
    site.files["digits.bin"] = content
    published = digits(
        site.url("digits.bin"), content=content, makes=("words",),
        unpack=lambda file, folder: archives.unpack(file, folder / "words"),
    )  # fmt: skip
    obtain(published)
    assert {str(p.relative_to(place / "words")) for p in place.rglob("*.*") if p.is_file() and "words" in p.parts} == {
        "yes/a.wav", "no/b.wav", "testing_list.txt",
    }  # fmt: skip
    assert (place / "words" / "no" / "b.wav").read_bytes() == b"no" * 1000
    obtain(published, forbidden=True)
    assert len(site.asked) == 1


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    "members, message",
    [
        ({"good": b"1", "../evil": b"x"}, r"'\.\./evil' would be written outside its folder"),
        ({"good": b"1", "a/../../evil": b"x"}, "outside its folder"),
        ({"/tmp/evil_absolute": b"x"}, "outside its folder"),
        ({"a\\..\\evil": b"x"}, "outside its folder"),
        ({"good": b"1", "link": None}, "'link' is neither a file nor a folder"),
        ({"a": b"1", "a/b": b"2"}, "two files called"),
    ],
)
def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path, kind, members, message):
    archive, folder = tmp_path / "archive", tmp_path / "inner" / "words"
    archive.write_bytes(packed(kind, members))
    with pytest.raises(DataError, match=message) as error:
        archives.unpack(archive, folder)
    assert str(archive) in str(error.value)
    assert not folder.exists() and not list(tmp_path.rglob("*evil*")) and not Path("/tmp/evil_absolute").exists()
    assert not list((tmp_path / "inner").iterdir())


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "changed", "not an archive", "empty"])
def test_a_damaged_archive_is_an_error_and_leaves_nothing(tmp_path, kind, damage):
    whole = packed(kind, {f"{i}.wav": np.random.default_rng(i).bytes(20_000) for i in range(20)})
    middle = len(whole) // 2
    content = {
        "cut": whole[:middle],
        "changed": whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 200]) + whole[middle + 200 :],
        "not an archive": b"<html>" * 1000,
        "empty": b"",
    }[damage]
    archive, folder = tmp_path / "archive", tmp_path / "inner" / "words"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"archive: damaged"):
        archives.unpack(archive, folder)
    assert not list((tmp_path / "inner").iterdir())


@pytest.mark.parametrize(
    "error",
    [
        lzma.LZMAError("corrupt"), zipfile.BadZipFile("no"), zlib.error("a check"), EOFError(), tarfile.ReadError("no"),
        OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_an_archive_is_damaged_by_is_an_error_that_names_it(error, tmp_path, monkeypatch):
    def unpack(archive, folder):
        raise error

    monkeypatch.setenv("SNN_DELAY_PLUGINS_DATA", str(tmp_path))
    archive = tmp_path / "set" / "words.tar.xz"
    archive.parent.mkdir()
    archive.write_bytes(b"damaged")
    file = RemoteFile("words.tar.xz", ("http://127.0.0.1/words.tar.xz",), None, makes=("words",), unpack=unpack)
    with pytest.raises(DownloadError, match=r"words\.tar\.xz: damaged.*; delete it to have it downloaded anew"):
        obtain(Published("set", "a page", "a licence", (file,)), forbidden=True)
    assert archive.read_bytes() == b"damaged"


def test_one_file_is_taken_from_whichever_folder_of_the_archive(tmp_path):
    archive, into = tmp_path / "archive.zip", tmp_path / "out" / "ssc_train.h5"
    archive.write_bytes(packed("zip", {"read me": b"1", "datasets/ssc_train.h5": CONTENT}))
    archives.unpack_file(archive, "ssc_train.h5", into)
    assert into.read_bytes() == CONTENT
    with pytest.raises(DataError, match=r"no file ssc_test\.h5 in this archive; it holds read me, datasets/ssc_train"):
        archives.unpack_file(archive, "ssc_test.h5", into)


# -------------------------------------------------------------------------------------- the papers' own data sets


@pytest.mark.parametrize("data", datasets.published().values(), ids=datasets.published())
def test_known_data_sets_have_secure_addresses_and_hashes(data):
    for file in data.files:
        if file.hash is not None:
            kind, _, value = file.hash.partition(":")
            assert len(value) == {"md5": 32, "sha256": 64}[kind] and set(value) <= set("0123456789abcdef")
        assert file.urls[0].startswith("https://") and all(url.endswith(f"/{file.name}") for url in file.urls)
    assert pickle.loads(pickle.dumps(data)).files[0].urls == data.files[0].urls  # as other processes get it


def test_only_the_braille_archive_has_no_published_hash():
    assert [name for name, data in datasets.published().items() if any(file.hash is None for file in data.files)] == [
        "Braille"
    ]
    assert list(datasets.published()) == ["SHD", "SSC", "GSC", "Braille"]


def served(site, name, members):
    """A published data set of these files: {name: content}."""
    site.files |= members
    files = tuple(RemoteFile(file, (site.url(file),), md5(content)) for file, content in members.items())
    return Published(name, "https://example.org", "CC BY 4.0", files)


@pytest.fixture
def shd(site, small_data):
    return served(
        site, "SHD", {f"shd_{s}.h5.gz": (small_data / f"miniature_{s}.h5.gz").read_bytes() for s in ("train", "test")}
    )


def test_a_recipe_without_a_data_folder_downloads_what_it_needs(site, shd, tmp_path, monkeypatch, caplog):
    recipe = dataclasses.replace(RECIPE, source_of_data=BinnedCounts(Binning(), shd))
    monkeypatch.setattr("recipes.__main__.find_recipes", lambda: {recipe.name: recipe})
    command = ["run", recipe.name, "--only", "lif", "--epochs", "1", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert main([*command, "--offline"]) == 2 and site.asked == []
    caplog.set_level("INFO")
    assert main(command) == 0
    assert "SHD is not in" in caplog.text and "SHD" in (tmp_path / "out" / "deckers_table1.md").read_text()
    assert len(site.asked) == 2
    assert main([*command, "--offline"]) == 0 and len(site.asked) == 2


def test_data_can_be_downloaded_ahead(site, shd, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(datasets.SOURCES, "SHD", BinnedCounts(Binning(), shd))
    assert main(["download", "SHD"]) == 0
    assert capsys.readouterr().out == f"SHD is in {tmp_path / 'data' / 'SHD'}\n"
    assert main(["download", "SHD"]) == 0 and len(site.asked) == 2
    site.files.clear()
    (tmp_path / "data" / "SHD" / "shd_test.h5.gz").unlink()
    assert main(["download", "SHD"]) == 2
    assert "HTTP 404" in capsys.readouterr().err


def test_words_come_out_of_their_archive(site, tmp_path):
    folder = miniature_speech.make(tmp_path / "words", clips_per_speaker=1)
    members = {f"./{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    content = packed("tar.gz", members)
    site.files["speech_commands_v0.02.tar.gz"] = content
    (file,) = speech_commands.GSC.files
    local = dataclasses.replace(file, urls=(site.url(file.name),), hash=md5(content))
    found = obtain(dataclasses.replace(speech_commands.GSC, files=(local,)))
    assert SpeechCommands().load(found, "clean").digest == SpeechCommands().load(folder, "clean").digest


def test_ssc_comes_out_of_its_archives(site, small_data):
    files = []
    for file in heidelberg.SSC.files:
        split = file.name.split("_")[1].split(".")[0]
        plain = gzip.decompress((small_data / f"miniature_{split}.h5.gz").read_bytes())
        site.files[file.name] = packed("zip", {f"ssc_{split}.h5": plain})
        files.append(dataclasses.replace(file, urls=(site.url(file.name),), hash=md5(site.files[file.name])))
    splits = BinnedCounts(Binning()).load(obtain(dataclasses.replace(heidelberg.SSC, files=tuple(files))), "clean")
    assert splits.name == "SSC" and [len(part) for part in (splits.train, splits.valid, splits.test)] == [48, 16, 16]
