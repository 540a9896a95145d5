"""Memory of reading and iterating recordings of SSC's size at 1 ms.

    python benchmarks/streaming.py FOLDER --training

Random spikes in SHD's format (about 8,000 per sample; 3.6 GB at full size, and a cache of 5.1 GB, both in FOLDER and
deleted at the end) are read as ``eventprop_shd`` reads them, and one shuffled epoch of batches is made. Peak resident
memory is that of a new process per row, Python and the libraries included; ``--training`` adds steps of a network.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import measure
import numpy as np

from recipes.engine.training import machine

SAMPLES = {"train": 75466, "valid": 9981, "test": 20382}  # SSC's
STEPS = {
    "libraries alone": "",
    "read the files, build the cache": "load()",
    "read from the cache": "load()",
    "and one epoch of batches of 32": "for _ in batches.batches(load().train.recordings, 32, 0): pass",
    "and 4 training steps of 256": "train(load())",
}
SETUP = """
import torch
torch.set_num_threads(1)
from pathlib import Path
from recipes.engine.training import batches, machine
from recipes.eventprop_shd import RECIPE
def load():
    return RECIPE.source_of_data.load(Path({folder!r}), "clean")
def train(splits):
    row = next(row for row in RECIPE.rows if row.key == "recurrent-256-delays")
    settings = RECIPE.network_settings | row.settings | {{"spike_times": "grid"}}
    objective = RECIPE.objective(RECIPE.network(splits.inputs, splits.classes, **settings), RECIPE.training)
    optimizer = objective.optimizer()
    objective.before_epoch(0)
    for step, batch in zip(range(4), batches.batches(splits.train, RECIPE.training.batch_size, 0)):
        optimizer.zero_grad()
        objective.measure(batch.inputs, batch.labels).loss.backward()
        optimizer.step()
{work}
print(machine._status("VmHWM"))
"""


def generate(path: Path, samples: int, rng: np.random.Generator) -> None:
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (samples,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (samples,), h5py.vlen_dtype(np.uint16))
        for sample, spikes in enumerate(rng.normal(8000, 1500, samples).clip(1000, 20000).astype(int)):
            times[sample] = np.sort(rng.random(spikes, np.float32)).astype(np.float16)
            units[sample] = rng.integers(0, 700, spikes, np.uint16)
        file["labels"] = np.arange(samples) % 35


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of SSC's samples (default 1)")
    parser.add_argument("--training", action="store_true")
    given = parser.parse_args()
    folder, rng = given.folder.resolve() / "ssc_sized", np.random.default_rng(0)
    folder.mkdir(parents=True)
    try:
        for split, samples in SAMPLES.items():
            generate(folder / f"ssc_{split}.h5", round(given.share * samples), rng)
        print(f"{machine.describe()['processor']}, one thread; {given.share:g} of SSC's samples\n")
        print("| step | seconds | peak resident memory (MiB) |\n|---|---|---|")
        for title, work in STEPS.items():
            if "train(" in work and not given.training:
                continue
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", SETUP.format(folder=str(folder), work=work)],
                env=os.environ | {"SNN_DELAY_PLUGINS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
                cwd=measure.CHECKOUT, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            print(f"| {title} | {time.perf_counter() - begun:.0f} | {float(done.stdout):.0f} |", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
