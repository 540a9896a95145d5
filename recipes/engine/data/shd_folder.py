"""A folder in SHD's format (:mod:`recipes.engine.data.binned`): its files, and what each protocol makes of them.

``read`` below makes a part of one file; a part has ``labels``, ``speakers`` (or None), ``take(which)`` and
``add_to(digest)``.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import plain_files
from .own_recordings import AS_EVER, Split
from .sources import CROSS_VALIDATION, PROTOCOLS, Splits

_PAPER_VALIDATION = {
    "test_accuracy": "test set (best test epoch, as published)",
    "train_accuracy": "training set (no validation set, as published)",
}
_SPLITS = ("train", "valid", "test")


def load_splits(
    data_dir: Path,
    protocol: str,
    read: Callable[[Path], Any],
    inputs: int,
    split: Split = AS_EVER,
    paper_criterion: str = "test_accuracy",
) -> Splits:
    """Read a folder in SHD's format for one protocol; ``read`` makes a part of one file.

    protocol "paper"
        trains on the train file and chooses the epoch by ``paper_criterion``. "test_accuracy": on the test file, as
        Deckers et al. do on SHD ("both a maximal and an average accuracy on the validation set": SHD has no
        validation set, so it is the test set); "train_accuracy": in training; "valid_accuracy": on the valid file,
        as all papers do on SSC, which has one.
    protocol "clean"
        chooses the epoch on the valid file. Where there is none, a share of the training speakers (rounded, at
        least one) are taken out of training, or with a random ``split`` a share of the samples of every class; which
        ones follows its seed alone, so every run of a table has the same split.

    With a random ``split``, a test set that is not there is drawn from the training file, too.

    Raises :class:`DataError` for a missing folder or file and for any malformed file.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r}: use one of {', '.join(PROTOCOLS)}")
    name, files = find_files(data_dir, split)
    validates = protocol == "clean" or paper_criterion == "valid_accuracy"
    wanted = [part for part in _SPLITS if part in files and (part != "valid" or validates)]
    splits = {part: read(files[part]) for part in wanted}
    classes = _count_classes(files, splits)
    train, valid, test = splits["train"], splits.get("valid"), splits.get("test")
    drawn = protocol == "clean" and valid is None and split.random
    if split.random and not drawn and test is not None:
        there = ", ".join(files[part].name for part in wanted)
        raise DataError(f"{data_dir}: --split random has nothing to make under protocol {protocol}, with {there}; drop it")
    if drawn or test is None:
        train, valid, test = _draw(files["train"], train, valid, test, drawn, split)
    if not validates:
        validation = _PAPER_VALIDATION[paper_criterion]
    elif drawn:
        validation = f"{len(valid)} samples drawn from {files['train'].name} (seed {split.seed})"
    elif valid is not None:
        validation = f"{files['valid'].name} ({len(valid)} samples)"
    elif protocol == "paper":
        missing = files["train"].name.replace("_train.", "_valid.")
        raise DataError(f"{data_dir}: {missing} is missing, on which the paper chose its epoch")
    else:
        train, valid, who = _hold_out_speakers(files["train"], train, split.share, split.seed)
        validation = f"speakers {', '.join(map(str, who))} held out of {files['train'].name} ({len(valid)} samples)"
    digest = _digest(*(part for part in (train, valid, test) if part is not None))
    return Splits(
        name, protocol, train, valid, test, inputs, classes, validation, digest, paper_criterion,
        class_names=_names(splits.values(), classes),
    )  # fmt: skip


def speaker_groups(data_dir: Path, read: Callable[[Path], Any], count: int, split_seed: int = 0) -> list[tuple[int, ...]]:
    """The speakers of the train file in at most ``count`` groups of nearly equal size, drawn by ``split_seed``."""
    path = find_files(data_dir)[1]["train"]
    complaint = (
        "cross-validation has nobody to leave out; number there what belongs together, or compare runs with --split random "
        "by their accuracy on validation samples"
    )
    speakers = _speakers(path, read(path), complaint)
    if count < 2:
        raise ValueError(f"cross-validation needs at least two groups of speakers, got {count}")
    drawn = np.random.default_rng(split_seed).permutation(speakers)
    return [tuple(np.sort(group).tolist()) for group in np.array_split(drawn, min(count, len(speakers)))]


def load_fold(data_dir: Path, read: Callable[[Path], Any], inputs: int, left_out: tuple[int, ...]) -> Splits:
    """The train file without the speakers ``left_out``, whose samples are for validation; the other files are not read.

    Raises :class:`DataError` for a missing folder or file, for any malformed file and where a class is left without
    training samples.
    """
    name, files = find_files(data_dir)
    path = files["train"]
    whole = read(path)
    classes = _count_classes(files, {"train": whole})
    train, valid = _leave_out(path, whole, left_out)
    validation = f"speakers {', '.join(map(str, left_out))} left out of {path.name} ({len(valid)} samples)"
    digest = _digest(whole)
    return Splits(
        name, CROSS_VALIDATION, train, valid, None, inputs, classes, validation, digest, left_out=left_out,
        class_names=_names([whole], classes),
    )  # fmt: skip


def _names(parts: Iterable, classes: int) -> tuple[str, ...]:
    """Of the classes, where a file says all of them."""
    found = (getattr(part, "class_names", ()) for part in parts)
    return next((names for names in found if len(names) == classes), ())


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        part.add_to(digest)
    return digest.hexdigest()[:16]


def find_files(data_dir: Path, split: Split | None = None) -> tuple[str, dict[str, Path]]:
    """The data set's name and its files by split. ``data_dir`` is a folder, or folder/NAME where it holds
    several sets. With a random ``split`` no test file is needed."""
    data_dir = Path(data_dir)
    if data_dir.is_dir():
        folder, names = data_dir, sorted({match["name"] for match in _split_files(data_dir)})
    elif data_dir.parent.is_dir() and any(m["name"] == data_dir.name for m in _split_files(data_dir.parent)):
        folder, names = data_dir.parent, [data_dir.name]
    else:
        raise DataError(f"{data_dir}: no such folder")
    if not names:
        raise DataError(f"{folder}: no spike recordings here; expected NAME_train.h5[.gz] and NAME_test.h5[.gz]")
    if len(names) > 1:
        choices = ", ".join(str(folder / name) for name in names)
        raise DataError(f"{folder}: several data sets; name one of {choices}")
    files = {}
    for match in sorted(_split_files(folder), key=lambda m: m.string):  # ".h5" is before what is packed, and faster
        if match["name"] == names[0]:
            files.setdefault(match["split"], folder / match.string)
    if "train" not in files:
        raise DataError(f"{folder}: {names[0]}_train.h5[.gz] is missing")
    if "test" not in files and not (split and split.random):
        raise DataError(f"{folder}: {names[0]}_test.h5[.gz] is missing; --split random makes one of training samples")
    plain_files.check_distinct(files)
    return names[0].upper() if names[0] in ("shd", "ssc", "dsp20") else names[0], files


def _split_files(folder: Path) -> list[re.Match]:
    pattern = re.compile(r"(?P<name>.+)_(?P<split>train|valid|test)\.h5(\.gz|\.zip)?")
    return [match for entry in folder.iterdir() if (match := pattern.fullmatch(entry.name))]


def _count_classes(files: dict[str, Path], splits: dict) -> int:
    present = np.unique(splits["train"].labels)
    gap = np.flatnonzero(present != np.arange(len(present)))
    if len(gap):
        label = present[gap[0]]
        sample = int(np.flatnonzero(splits["train"].labels == label)[0])
        raise DataError(
            f"{files['train']}: sample {sample} has label {label}, but no sample has label {gap[0]}: "
            "labels out of range or a class missing"
        )
    for split, part in splits.items():
        wrong = np.flatnonzero(part.labels >= len(present))
        if len(wrong):
            raise DataError(
                f"{files[split]}: sample {wrong[0]} has label {part.labels[wrong[0]]}, out of range: "
                f"the training file has classes 0 to {len(present) - 1}"
            )
    return len(present)


def _hold_out_speakers(path: Path, train, share: float, seed: int):
    missing = path.name.replace("_train.", "_valid.")
    complaint = (
        f"there is no {missing}, so the clean protocol has nobody to hold out; --split random holds out a share of the "
        "samples"
    )
    speakers = _speakers(path, train, complaint)
    count = min(max(1, round(share * len(speakers))), len(speakers) - 1)
    chosen = np.sort(np.random.default_rng(seed).choice(speakers, size=count, replace=False)).tolist()
    return *_leave_out(path, train, chosen), chosen


def _draw(path: Path, train, valid, test, validates: bool, split: Split):
    """The training samples without those that become validation and test sets, where these are not there. Raises
    :class:`DataError` where too few are there."""
    parts = [name for name, needed in (("valid", validates), ("test", test is None)) if needed]
    *held, left = split.draw(train.labels, len(parts))
    if not all(len(part) for part in held):
        raise DataError(f"{path}: too few samples of every class to hold some out; {' and '.join(parts)} would be empty")
    found = {"valid": valid, "test": test} | {name: train.take(which) for name, which in zip(parts, held, strict=True)}
    return train.take(left), found["valid"], found["test"]


def _speakers(path: Path, train, complaint: str) -> np.ndarray:
    """Who spoke, at least two of them. Raises :class:`DataError`, with what that means."""
    if train.speakers is None:
        raise DataError(f"{path}: no extra/speaker: {complaint}")
    speakers = np.unique(train.speakers)
    if len(speakers) < 2:
        raise DataError(f"{path}: one speaker only: {complaint}")
    return speakers


def _leave_out(path: Path, train, speakers):
    """The samples of all others, and of these speakers."""
    out = np.isin(train.speakers, speakers)
    missing = np.setdiff1d(train.labels, train.labels[~out])
    if len(missing):
        raise DataError(f"{path}: holding out speakers {list(speakers)} leaves no training sample of class {missing[0]}")
    return train.take(np.flatnonzero(~out)), train.take(np.flatnonzero(out))
