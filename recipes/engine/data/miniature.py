"""A miniature data set in SHD's format, made in a second, for ``--smoke`` and for tests.

Four classes: two bands of channels x two orders of the same two bursts. The band can be read from the summed
counts of a sample; the order (low part of the band first, or high part first) cannot: it leaves only timing
to tell the two apart. A classifier that is blind to time therefore reaches 50 %.
"""

import gzip
import shutil
from pathlib import Path

import h5py
import numpy as np

from ..files import atomic, cache

CLASSES = 4
SIZES = {"train": 192, "valid": 64, "test": 64}
_SPEAKERS = {"train": range(0, 6), "valid": range(6, 8), "test": range(8, 10)}
_BANDS = ((0, 350), (350, 700))


def make(folder: Path | None = None, seed: int = 0, sizes: dict[str, int] | None = None) -> Path:
    """Write ``miniature_{train,valid,test}.h5.gz`` (the splits in ``sizes``) into ``folder`` and return it.

    The default folder is in the cache and is made once per seed. Equal seeds give equal recordings.
    """
    sizes = SIZES if sizes is None else sizes
    if folder is None:
        folder = cache.folder() / "miniature" / f"seed{seed}" / "-".join(f"{s}{n}" for s, n in sizes.items())
    for split, samples in sizes.items():
        path = Path(folder) / f"miniature_{split}.h5.gz"
        if not path.exists():
            split_number = list(SIZES).index(split)
            with atomic.replacing(path) as part:
                _write(part, *_recordings(samples, _SPEAKERS[split], np.random.default_rng([seed, split_number])))
    return Path(folder)


def _recordings(samples: int, speakers: range, rng: np.random.Generator):
    labels = rng.permutation(np.arange(samples) % CLASSES)
    who = rng.choice(list(speakers), samples)
    times, units = zip(*(_sample(label, speaker, rng) for label, speaker in zip(labels, who, strict=True)), strict=True)
    return times, units, labels, who


def _sample(label: int, speaker: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two bursts of 60 spikes, 0.3 s apart, in the two halves of a band, over a background of 40 spikes."""
    low, high = _BANDS[label // 2]
    middle = (low + high) // 2
    halves = ((low, middle), (middle, high))
    onset = 0.1 + 0.02 * speaker + rng.uniform(0.0, 0.3)
    times, units = [rng.uniform(0.0, 0.999, 40)], [rng.integers(0, 700, 40)]
    for burst, half in enumerate(halves if label % 2 == 0 else halves[::-1]):
        times.append(np.clip(rng.normal(onset + 0.3 * burst, 0.02, 60), 0.0, 0.999))
        units.append(rng.integers(*half, 60))
    times, units = np.concatenate(times), np.concatenate(units)
    order = np.argsort(times, kind="stable")
    return times[order].astype(np.float16), units[order].astype(np.uint16)


def _write(path: Path, times, units, labels, speakers) -> None:
    plain = path.with_name(path.name + ".h5")
    try:
        with h5py.File(plain, "w") as file:
            for name, arrays, kind in (("times", times, np.float16), ("units", units, np.uint16)):
                dataset = file.create_dataset(f"spikes/{name}", (len(labels),), h5py.vlen_dtype(kind))
                for i, array in enumerate(arrays):
                    dataset[i] = array
            file["labels"] = labels.astype(np.uint16)
            file["extra/speaker"] = speakers.astype(np.uint16)
        with open(plain, "rb") as source, gzip.open(path, "wb", compresslevel=4) as packed:
            shutil.copyfileobj(source, packed)
    finally:
        plain.unlink(missing_ok=True)
