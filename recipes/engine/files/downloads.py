"""The papers' data from where they are published: downloaded once, checked, and never used half.

A file is received into a hidden folder beside its place, continued there if the connection breaks or the process is
killed (HTTP ranges), checked against its hash, and moved into its place in one step. Processes that want the same file
at the same time download it once: the others wait.

Where hashes come from
    * SHD (MD5 of the .gz files) and SSC (MD5 of the .zip files): tonic, SpikingJelly and other public readers of the
      data name the same ones. For SSC's .gz files not all hashes could be found, so the .zip files are taken.
    * Speech Commands v0.02 (SHA-256): torchaudio.
    * Braille: none could be found in a public source. The SHA-256 of the first download is recorded beside the file and
      checked from then on; until then the archive's own checksums are all that tells a damaged file.
"""

import contextlib
import dataclasses
import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import DataError, one_line
from . import archives, atomic, cache

log = logging.getLogger(__name__)

_TRIES = 4  # in a row that bring nothing
_PAUSE = 1.5  # seconds before the second try; longer before the later ones
_TIMEOUT = (15, 60)  # seconds to connect, and without a byte
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # HTTP status codes that may be others in a moment


class DownloadError(DataError):
    """Data that could not be had; the message says why and how to provide them by hand."""


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """``urls`` are tried in this order. ``hash`` is "md5:..." or "sha256:...", None where nobody has published one.
    ``unpack(file, folder)`` makes ``makes`` of it, each whole or not at all; without them the file itself is used."""

    name: str
    urls: tuple[str, ...]
    hash: str | None
    makes: tuple[str, ...] = ()
    unpack: Callable[[Path, Path], None] | None = None


@dataclasses.dataclass(frozen=True)
class Published:
    """A data set: ``page`` is where people read about it, ``data`` the part of its folder that --data-dir would name."""

    name: str
    page: str
    licence: str
    files: tuple[RemoteFile, ...]
    data: str = "."


def unpack_file(name: str, archive: Path, folder: Path) -> None:
    archives.unpack_file(archive, name, folder / name)


def unpack_folder(name: str, archive: Path, folder: Path) -> None:
    archives.unpack(archive, folder / name)


def home() -> Path:
    """Where downloads lie: $SNN_DELAY_PLUGINS_DATA, else the folder "downloads" of the cache."""
    return Path(os.environ.get("SNN_DELAY_PLUGINS_DATA") or cache.folder() / "downloads")


def offline() -> bool:
    """Whether $SNN_DELAY_PLUGINS_OFFLINE forbids downloads (any value but 0 and nothing)."""
    return os.environ.get("SNN_DELAY_PLUGINS_OFFLINE", "0") not in ("", "0")


def obtain(data: Published, forbidden: bool = False) -> Path:
    """The folder that holds ``data``; what is missing there is downloaded, after saying so. ``forbidden``: then it is
    an error. Raises :class:`DownloadError`, and :class:`DataError` for an archive that cannot be unpacked."""
    folder = home() / data.name
    forbidden = forbidden or offline()
    needed = [file for file in data.files if not _is_made(file, folder)]
    absent = [file.name for file in needed if not (folder / file.name).exists()]
    if absent and not forbidden:
        log.info(
            "%s is not in %s yet: downloading %s (%s, %s). --data-dir DIR names a folder that has it, --offline forbids.",
            data.name, folder, ", ".join(absent), data.page, data.licence,
        )  # fmt: skip
    for file in needed:
        if forbidden and not (folder / file.name).exists():
            raise DownloadError(f"{folder / file.name} is missing, and downloads are forbidden; {by_hand(data)}")
        with _disk_errors(folder), _alone_with(folder / file.name):
            if not _is_made(file, folder):  # another process may have made it
                _make(data, file, folder, forbidden)
    return folder / data.data


def _is_made(file: RemoteFile, folder: Path) -> bool:
    """What is made of the file, each whole or absent. Files that are used themselves are looked at every time."""
    return bool(file.makes) and all((folder / name).exists() for name in file.makes)


def by_hand(data: Published) -> str:
    """What a person without a network can do."""
    where = " and ".join(file.urls[0] for file in data.files)
    return f"put {where} into {home() / data.name}, or name a folder that has {data.name} with --data-dir"


# ---------------------------------------------------------------------------------------------------- one file


def _alone_with(path: Path) -> contextlib.AbstractContextManager:
    if path.exists() and not os.access(path.parent, os.W_OK):
        return contextlib.nullcontext()  # somebody else's folder: nothing will be written, so nobody has to wait
    return atomic.locked(path, lambda: log.info("waiting for another process that is downloading %s", path.name))


def _make(data: Published, file: RemoteFile, folder: Path, forbidden: bool) -> None:
    path, record = folder / file.name, folder / f"{file.name}.sha256"
    known = file.hash
    if known is None and record.exists():
        known = f"sha256:{record.read_text(encoding='utf-8').split()[0]}"
    _fetch(data, file, path, known, forbidden)
    if file.unpack:
        log.info("unpacking %s", path)
        with _damages(path):
            file.unpack(path, folder)
    if known is None:
        found = _hash(path, "sha256")
        atomic.write_text(record, f"{found}  {path.name}\n")
        log.info(
            "%s: we know of no published hash. Its SHA-256 is %s: compare it with what %s says, if you can. "
            "It is recorded in %s and checked from now on.", path, found, data.page, record.name,
        )  # fmt: skip


def _fetch(data: Published, file: RemoteFile, path: Path, known: str | None, forbidden: bool) -> None:
    if path.exists():
        wrong = _difference(path, known)
        if wrong is None:
            return
        if forbidden:
            raise DownloadError(f"{path}: {wrong}, and downloads are forbidden; {by_hand(data)}")
        log.warning("%s: %s; downloading it anew", path, wrong)
    failures = []
    for url in file.urls:
        try:
            return _download(url, path, known)
        except DownloadError as error:
            failures.append(str(error))
    raise DownloadError(f"{data.name}: {'; '.join(failures)}. By hand: {by_hand(data)}")


def _difference(path: Path, known: str | None) -> str | None:
    """How the file differs from what it should be, or None."""
    if known is None:
        return None
    kind, _, value = known.partition(":")
    found = _hash(path, kind)
    return None if found == value else f"its {kind} is {found}, not {value}"


def _hash(path: Path, kind: str) -> str:
    import pooch

    return pooch.file_hash(str(path), alg=kind)


def _download(url: str, path: Path, known_hash: str | None) -> None:
    """``path`` from ``url``, checked. Raises :class:`DownloadError`."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it repeats what is said here
    staging = path.with_name(f".{path.name}.download")
    staging.mkdir(parents=True, exist_ok=True)
    for left in staging.glob("tmp*"):  # pooch's, of a killed process
        left.unlink()
    for last in (False, True):
        receive = _Receiver(staging / "part", path.name, checked=known_hash is not None)
        try:
            pooch.retrieve(url, known_hash, path.name, staging, downloader=receive)
            break
        except DownloadError:
            raise
        except ValueError as error:  # another hash; pooch has deleted the file
            if last or not receive.resumed:
                raise DownloadError(f"{url}: not the file that was expected ({one_line(error)})") from error
            log.warning("%s: what was received in several parts does not fit together; beginning anew", url)
    os.replace(staging / path.name, path)
    shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = {
            errno.ENOSPC: "no space left on the disk", errno.EDQUOT: "no space left on the disk",
            errno.EACCES: "cannot be written", errno.EROFS: "cannot be written",
        }.get(error.errno)  # fmt: skip
        if reason is None:
            raise
        raise DownloadError(
            f"{folder}: {reason}; set SNN_DELAY_PLUGINS_DATA to a folder elsewhere, or name one that has the data with "
            "--data-dir"
        ) from error


@contextlib.contextmanager
def _damages(archive: Path) -> Iterator[None]:
    """Whatever unpacking a damaged archive leads to, as an error that names it."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise  # of the disk
        raise DownloadError(
            f"{archive}: damaged, or not what it should be ({one_line(error)}); delete it to have it downloaded anew"
        ) from error


class _Interrupted(Exception):
    """A transfer that may succeed if it is tried again."""


class _Receiver:
    """A downloader for pooch that continues what an earlier attempt has left in ``part``.

    A file without a known hash (``checked`` is False) is only continued if the server says that it is the same still
    (If-Range with the ETag or date that its beginning came with).
    """

    def __init__(self, part: Path, title: str, checked: bool):
        self.part, self.title, self.checked, self.resumed = part, title, checked, False
        self._version = part.with_name("version")

    def __call__(self, url: str, output_file: str, pooch_object: object) -> None:
        tries = 0
        while True:
            before = self._have
            try:
                self._receive(url)
                break
            except _Interrupted as error:
                tries = 1 if self._have > before else tries + 1
                if tries >= _TRIES:
                    raise DownloadError(f"{url}: {error}") from error
                log.info("%s: %s; trying again", url, error)
                time.sleep(_PAUSE * tries)
        os.replace(self.part, output_file)
        self._version.unlink(missing_ok=True)

    @property
    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, url: str) -> None:
        import requests
        import urllib3

        try:
            with requests.get(url, headers=self._headers(), stream=True, timeout=_TIMEOUT) as response:
                if not self._is_whole(url, response):
                    self._write(response)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _Interrupted(_reason(error)) from error

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}  # a .gz file as it is
        version = self._version.read_text(encoding="latin-1") if self._version.exists() else None
        if self._have and (self.checked or version):
            headers["Range"] = f"bytes={self._have}-"
            if version:
                headers["If-Range"] = version
        return headers

    def _is_whole(self, url: str, response) -> bool:
        """Whether there is nothing left to receive. Raises where there is nothing to be had."""
        code = response.status_code
        if code == 416:  # no such range: nothing is missing, or what we have is of another file
            self.resumed = True
            if response.headers.get("Content-Range") == f"bytes */{self._have}":
                return True
            self.part.unlink(missing_ok=True)
            raise _Interrupted("what an earlier attempt left does not fit")
        if code in _TEMPORARY:
            raise _Interrupted(f"HTTP {code} {response.reason}")
        if code not in (200, 206):
            raise DownloadError(f"{url}: HTTP {code} {response.reason}")
        return False

    def _write(self, response) -> None:
        start = self._have if response.status_code == 206 else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            self.part.unlink()
            raise _Interrupted("the server sent another part than was asked for")
        self.resumed = self.resumed or start > 0
        if not start:
            self._remember_version(response)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        if total is not None and total - start > shutil.disk_usage(self.part.parent).free:
            raise OSError(errno.ENOSPC, "not enough space")
        with open(self.part, "ab" if start else "wb") as file, _progress(self.title, start, total) as advance:
            for piece in response.raw.stream(1 << 18, decode_content=False):
                file.write(piece)
                advance(len(piece))
        if total is not None and self._have != total:
            raise _Interrupted(f"the connection ended after {self._have} of {total} bytes")

    def _remember_version(self, response) -> None:
        etag = response.headers.get("ETag", "W/")
        version = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
        if version:
            atomic.write_text(self._version, version)
        else:
            self._version.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer"
    if isinstance(error, requests.exceptions.SSLError):
        return f"no secure connection ({_cause(error)})"
    if isinstance(error, requests.ConnectionError) and not isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"no connection ({_cause(error)})"
    return f"the connection broke ({_cause(error)})"


def _cause(error: Exception) -> str:
    """What happened at the bottom, without the pools and retries around it."""
    inner = error.args[0] if error.args else error
    text = one_line(getattr(inner, "reason", inner))
    return text.partition("): ")[2] or text


@contextlib.contextmanager
def _progress(title: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=start)
        yield lambda received: bar.update(task, advance=received)
