"""What a recipe needs of its data: a source that loads them, parts that give batches, the split of a protocol.

A new data set is one subclass of :class:`Source` and one kind of part; the engine asks for nothing else.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from ..errors import OptionError

if TYPE_CHECKING:
    from ..files.downloads import Published

PROTOCOLS = ("paper", "clean")
UNKNOWN = -1
"""The label of a sample of which the file does not say what it is."""
CROSS_VALIDATION = "cross-validation"  # the protocol of ``tune``, which never reads a test set


class Part(Protocol):
    """Samples for training or for evaluation."""

    def __len__(self) -> int:
        """Number of examples in an epoch (for training data that are augmented: of augmented ones)."""

    def batch(self, which: np.ndarray, rng: np.random.Generator) -> tuple[Any, Tensor]:
        """(inputs, labels) of these examples, numbered from 0. Every random choice (augmentation) is drawn
        from ``rng``, which follows (seed, epoch, batch)."""


@dataclasses.dataclass(frozen=True)
class Splits:
    """What one protocol trains, validates and tests on.

    ``valid`` is None where the protocol has no validation set, ``test`` in cross-validation, where ``left_out`` are the
    speakers of ``valid``. ``digest`` names the contents: two runs with equal digests (and the same speakers left out) saw
    the same numbers. ``paper_criterion`` is the metric by which the paper chose its epoch.
    """

    name: str
    protocol: str
    train: Part
    valid: Part | None
    test: Part | None
    inputs: int
    classes: int
    validation: str
    digest: str
    paper_criterion: str = "test_accuracy"
    left_out: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    """Of the classes; empty where the data do not say."""

    @property
    def facts(self) -> dict:
        """What a result says of its data."""
        sizes = {name: len(part) for name, part in (("train", self.train), *self.evaluated.items())}
        facts: dict[str, Any] = {"name": self.name, "samples": sizes, "inputs": self.inputs, "classes": self.classes}
        facts["validation"] = self.validation
        if self.class_names:
            facts["class_names"] = list(self.class_names)
        durations = [getattr(part, "duration", None) for part in self.evaluated.values()]
        if durations and isinstance(durations[0], float):
            facts["duration"] = durations[0]
        return facts

    @property
    def evaluated(self) -> dict[str, Part]:
        """The sets measured after every epoch."""
        return {name: part for name, part in (("valid", self.valid), ("test", self.test)) if part is not None}

    @property
    def criteria(self) -> dict[str, str]:
        """The metric by which each protocol chooses its epoch; no "clean" without a validation set."""
        if self.test is None:
            return {CROSS_VALIDATION: "valid_accuracy"}
        return {"paper": self.paper_criterion} | ({} if self.valid is None else {"clean": "valid_accuracy"})

    @property
    def criterion(self) -> str:
        """The metric that chooses this protocol's epoch and steers learning rates."""
        return self.criteria[self.protocol]


class Source:
    """Where a recipe's samples come from. ``settings`` are all the numbers that they depend on, as plain JSON
    values; they are kept with every result and tell runs apart."""

    folder: str | None = None
    """What ``--data-dir`` must hold, in words; None for generated data, which need no folder."""

    published: "Published | None" = None
    """What is downloaded without ``--data-dir``; None where there is nothing to download."""

    names_speakers = False
    """Whether these data say who spoke: :meth:`folds` and :meth:`load_fold` work."""

    @property
    def settings(self) -> dict:
        raise NotImplementedError

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Options of this source alone."""

    def with_options(self, given: argparse.Namespace) -> "Source":
        """This source as the options of :meth:`add_options` want it."""
        return self

    def matches(self, given: argparse.Namespace, settings: dict) -> bool:
        """Whether a finished run with these settings is one that the options ask for."""
        return True

    def find(self, data_dir: Path) -> str:
        """The name of the data in ``data_dir``, found without reading them. Raises :class:`DataError`."""
        raise NotImplementedError

    def download(self, forbidden: bool) -> Path | None:
        """The folder of the published data, downloaded where they are not there yet, unless that is forbidden; None for
        generated data. Raises :class:`DataError`."""
        if self.published is None:
            return None
        from ..files import downloads

        return downloads.obtain(self.published, forbidden)

    def load(self, data_dir: Path | None, protocol: str) -> Splits:
        """Raises :class:`DataError` for a missing folder or file and for any malformed file."""
        raise NotImplementedError

    def folds(self, data_dir: Path | None, count: int) -> list[tuple[int, ...]]:
        """The speakers of the training set in ``count`` groups (of one each where there are no more), each to be left out
        once. Raises :class:`DataError` for a file that names nobody."""
        raise NotImplementedError

    def load_fold(self, data_dir: Path | None, left_out: tuple[int, ...]) -> Splits:
        """The training set without these speakers, who are what is validated on; no test set."""
        raise NotImplementedError

    def of_run(self, settings: dict) -> "Source":
        """The source of a run with these settings (:attr:`settings` among them). Raises :class:`OptionError` where it
        cannot read :meth:`recordings`."""
        raise OptionError(
            f"no files are read one by one by runs on {type(self).__name__}; those on SHD's format, audio and Braille can"
        )

    def knowing(self, facts: Mapping[str, Any]) -> "Source":
        """The source of a run whose result says this of its data (:attr:`Splits.facts`)."""
        return self

    def changed(self, changes: Mapping[str, Mapping]) -> "Source":
        """The source whose :attr:`settings` differ from this one's in these, part by part."""
        if not changes:
            return self
        before = self.settings
        return self.of_run(before | {part: {**before[part], **values} for part, values in changes.items()})

    def recordings(self, path: Path, allow_silence: bool = False) -> Part:
        """One file, as a run is evaluated on it; labels that are not in it are -1. Raises :class:`DataError`."""
        raise NotImplementedError

    def smoke(self) -> tuple["Source", Path | None]:
        """A miniature of this source, and the folder of its data: for ``--smoke``, without any download."""
        raise NotImplementedError
