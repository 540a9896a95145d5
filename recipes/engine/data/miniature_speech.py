"""A miniature of Speech Commands, made in a second, for ``--smoke`` and for tests.

Three words: a rising tone, a falling tone and both tones at once. The first two have the same spectrum over the whole
clip: only timing tells them apart.
"""

from pathlib import Path

import numpy as np
import soundfile

from ..files import atomic, cache

WORDS = ("both", "fall", "rise")
RATE = 16000
_SPEAKERS = {"train": range(0, 16), "valid": range(16, 20), "test": range(20, 26)}
_LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}


def make(folder: Path | None = None, seed: int = 0, clips_per_speaker: int = 2) -> Path:
    """Write the miniature into ``folder`` (default: in the cache, once per seed) and return it."""
    if folder is None:
        folder = cache.folder() / "miniature_speech" / f"seed{seed}"
    folder = Path(folder)
    if all((folder / name).exists() for name in _LISTS.values()):
        return folder
    rng, names = np.random.default_rng(seed), {split: [] for split in _SPEAKERS}
    for split, speakers in _SPEAKERS.items():
        for speaker in speakers:
            for word in WORDS:
                for take in range(clips_per_speaker):
                    name = f"{word}/{speaker:08x}_nohash_{take}"
                    with atomic.replacing(folder / f"{name}.flac") as part:
                        soundfile.write(part, _clip(word, speaker, rng), RATE, format="FLAC")
                    names[split].append(f"{name}.wav\n")  # the original lists say .wav
    for split, name in _LISTS.items():
        atomic.write_text(folder / name, "".join(names[split]))
    return folder


def _clip(word: str, speaker: int, rng: np.random.Generator) -> np.ndarray:
    """Two tones of 0.25 s, one after the other or together, over a little noise."""
    time = np.arange(RATE) / RATE
    onset = rng.uniform(0.05, 0.4)
    starts = {"rise": (onset, onset + 0.25), "fall": (onset + 0.25, onset), "both": (onset, onset)}[word]
    clip = 0.01 * rng.standard_normal(RATE)
    for tone, start in zip((400 + 10 * speaker, 1200 + 20 * speaker), starts, strict=True):
        clip += 0.3 * np.sin(2 * np.pi * tone * time) * ((time >= start) & (time < start + 0.25))
    return clip.astype(np.float32)
