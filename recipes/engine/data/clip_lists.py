"""Which clips of a folder of audio belong to which split: the lists that come with Speech Commands.

A list names one clip a line, ``word/name.wav``. Lists are read as people and programs write them: with a byte order mark,
Windows line ends and separators, ``./`` before the word, spaces around a line, another case, another suffix (recordings
packed as FLAC come with the lists of the WAV files). What is left over is an error: a line that names no clip, or a clip of
two lists, would put clips of the test set into training without a word.
"""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from ..files import plain_files

SUFFIXES = (".wav", ".flac")

Name = tuple[str, str]  # word, clip without its suffix


def clips_of(folder: Path, words: list[str]) -> dict[Name, Path]:
    """All clips of these words, in order. Raises :class:`DataError` for a clip that is there twice."""
    clips: dict[Name, Path] = {}
    for word in words:
        for path in sorted((folder / word).iterdir()):
            if path.suffix.lower() not in SUFFIXES:
                continue
            other = clips.setdefault((word, path.stem), path)
            if other != path:
                raise DataError(f"{path}: this clip is there as {other.name} too; keep one of them")
    plain_files.check_distinct({f"{word}/{path.name}": path for (word, _), path in clips.items()})
    return clips


def splits_of(folder: Path, clips: dict[Name, Path], lists: dict[str, str]) -> dict[str, list[Path]]:
    """The clips of each split, in order; ``lists`` are the files of all splits but "train", which has the others.

    Lines of words that have no folder are passed over: some words of a data set come with the lists of all.

    Raises :class:`DataError` for a line of another word that names no clip or more than one, for a clip of two lists and
    for a split without a clip of some word.
    """
    missing = ""
    alike: dict[Name, list[Name]] = {}
    for name in clips:
        alike.setdefault(_folded(name), []).append(name)
    words = {word for word, _ in alike}
    found: dict[Name, str] = {}
    for split, list_name in lists.items():
        for where, name in _lines(folder / list_name, split):
            if name not in clips:
                if _folded(name)[0] not in words:
                    continue
                meant = alike.get(_folded(name), [])
                if len(meant) != 1:
                    what = "names no clip that is there" if not meant else f"names {len(meant)} clips"
                    missing = missing or f"{where}: {'/'.join(name)!r} {what}; mend the line, or take it out"
                    continue
                name = meant[0]
            if found.setdefault(name, split) != split:
                raise DataError(f"{where}: {'/'.join(name)!r} is in {lists[found[name]]} too; a clip belongs to one split")
    splits: dict[str, list[Path]] = {split: [] for split in ("train", *lists)}
    for name, path in clips.items():
        splits[found.get(name, "train")].append(path)
    complaints = [complaint for complaint in (_gap(folder, splits), missing) if complaint]
    if complaints:
        raise DataError("; ".join(complaints))
    return splits


def _gap(folder: Path, splits: dict[str, list[Path]]) -> str:
    """A word that has no clip in some split, as a complaint."""
    of_words = {split: {path.parent.name for path in paths} for split, paths in splits.items()}
    for split, words in of_words.items():
        if not words:
            return f"{folder}: no clips for {split}"
        absent = set().union(*of_words.values()) - words
        if absent:
            return f"{folder}: no clip of {min(absent)!r} for {split}"
    return ""


def _lines(path: Path, split: str) -> Iterator[tuple[str, Name]]:
    """Where each line stands, and the clip that it names."""
    plain_files.checked(path, f"; it names the clips of the {split} set")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start})") from error
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip().replace("\\", "/")
        parts = [part for part in map(str.strip, line.split("/")) if part not in ("", ".")]
        if not parts:
            continue
        where = f"{path}, line {number}"
        if line.startswith("/") or ".." in parts or ":" in parts[0]:
            raise DataError(f"{where}: {line!r} leads out of the folder")
        if len(parts) != 2:
            raise DataError(f"{where}: {line!r} is not the name of a clip, word/name.wav")
        word, name = parts
        stem, dot, suffix = name.rpartition(".")
        yield where, (word, stem if dot and f".{suffix.lower()}" in SUFFIXES else name)


def _folded(name: Name) -> Name:
    """The same for names that differ in case, or in how an accent is written, alone."""
    word, clip = (unicodedata.normalize("NFC", part).casefold().strip() for part in name)
    return word, clip
