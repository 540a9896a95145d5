"""How accurate is the published code of Hammouamri et al. on the data at hand, over several seeds? And ours, from the same
random numbers?

    git clone https://github.com/Thvnvtos/SNN-delays
    python benchmarks/published_dcls_training.py SNN-delays --data-dir dsp20 --seeds 1,2,3 [--conv1d]
    python benchmarks/published_dcls_training.py SNN-delays --data-dir dsp20 --seeds 0 --double
    python benchmarks/published_dcls_training.py SNN-delays --data-dir dsp20 --seeds 0 --double --ours

Its model class, loss, optimizers, schedules, clamping, annealing and evaluation, at its SHD configuration without
augmentation; our reader supplies the counts. One thing is replaced: PyTorch's ``conv1d`` by the same sum as one product
per frequency, which is four times faster; ``--conv1d`` leaves it (their first losses are printed for comparison).
``--ours`` trains the network of the recipe ``dcls_table2`` with its objective instead, from the published model's initial
parameters, on the same batches and with the same dropout: in float64 (``--double``) rounding takes long to grow into
another spike, so that the two learning curves can be compared epoch by epoch.
A run is saved after every epoch under ``results/published_dcls`` and goes on from there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import measure
import numpy as np
import torch
from published_dcls import Ours, Published, published_code
from torch import Tensor, nn

from recipes.dcls.network import TimedCounts
from recipes.engine.training.objectives import Moment

STORE = Path("results/published_dcls")


def convolve(x: Tensor, kernel: Tensor, bias=None, *rest) -> Tensor:
    """``conv1d`` without padding, stride, dilation or groups, the products taken at each frequency."""
    strides, padding, dilation, groups = rest + ((1,), (0,), (1,), 1)[len(rest) :]
    if (tuple(strides), tuple(padding), tuple(dilation), groups) != ((1,), (0,), (1,), 1):
        raise NotImplementedError(f"conv1d{rest}")
    length, taps = x.shape[2], kernel.shape[2]
    frequencies = torch.fft.rfft(x, length).permute(2, 0, 1)
    weights = torch.fft.rfft(kernel.flip(2), length).permute(2, 1, 0)
    y = torch.fft.irfft((frequencies @ weights).permute(1, 2, 0), length)[..., taps - 1 :]
    return y if bias is None else y + bias[:, None]


def read(folder: Path, duration: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Counts [N, T, channels] of the clean protocol's splits, as bytes."""
    splits = TimedCounts(duration).load(folder, "clean")
    whole = {}
    for name in ("train", "valid", "test"):
        split = getattr(splits, name)
        parts = [
            split.batch(np.arange(k, min(k + 200, len(split))), np.random.default_rng(0)) for k in range(0, len(split), 200)
        ]
        counts = torch.cat([torch.as_tensor(x).to(torch.uint8) for x, _ in parts])
        whole[name] = counts, torch.cat([torch.as_tensor(y) for _, y in parts])
    return whole


def accuracy(side: Published | Ours, counts: Tensor, labels: Tensor, dtype: torch.dtype) -> float:
    side.model.eval()
    size = side.config.batch_size
    batches = ((x.permute(1, 0, 2).to(dtype), y) for x, y in zip(counts.split(size), labels.split(size), strict=True))
    with torch.no_grad():
        return 100 * side.right(batches) / len(labels)


def train(side: Published | Ours, data: dict, file: Path, label: str, epochs: int, dtype: torch.dtype) -> list[dict]:
    log: list[dict] = []
    if file.exists():
        saved = torch.load(file)
        log = saved["log"]
        for part, state in zip(side.parts, saved["parts"], strict=True):
            part.load_state_dict(state)
        torch.set_rng_state(saved["random"])
    counts, labels = data["train"]
    for epoch in range(len(log), epochs):
        start, busy = time.perf_counter(), time.process_time()
        side.model.train()
        side.before_epoch(epoch)
        batches = torch.randperm(len(labels)).split(side.config.batch_size)
        losses = [
            side.step(counts[chosen].permute(1, 0, 2).to(dtype), labels[chosen], Moment(epoch, number, len(batches)))
            for number, chosen in enumerate(batches)
        ]
        side.after_epoch(epoch)
        log.append({
            "epoch": epoch + 1, "first_loss": losses[0], "loss": statistics.mean(losses),
            **{name: accuracy(side, *data[name], dtype) for name in ("valid", "test")},
            "seconds": time.perf_counter() - start, "cpu": time.process_time() - busy,
        })  # fmt: skip
        print(label, {k: round(v, 4) for k, v in log[-1].items()}, flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        state = {"log": log, "parts": [part.state_dict() for part in side.parts], "random": torch.get_rng_state()}
        torch.save(state, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)
    return log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a checkout of the published code")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--duration", type=float, default=1.0, help="seconds of a sample (DSP20: 1.0)")
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--conv1d", action="store_true", help="with PyTorch's convolution")
    parser.add_argument("--double", action="store_true", help="in float64")
    parser.add_argument("--ours", action="store_true", help="our network and training, from the same random numbers")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dtype = torch.float64 if args.double else torch.float32
    kind = ("ours" if args.ours else "published") + ("_float64" if args.double else "")
    if not args.conv1d:
        nn.functional.conv1d = convolve
    published_code(args.folder, args.epochs, args.hidden)  # its modules can be imported from here on
    data = read(args.data_dir, args.duration)
    runs = {}
    for seed in map(int, args.seeds.split(",")):
        side = (Ours if args.ours else Published)(args.folder, seed, args.epochs, args.hidden, dtype)
        file = STORE / f"{kind}_seed{seed}_{args.epochs}_{args.hidden}.pt"
        log = train(side, data, file, f"{kind}, seed {seed}", args.epochs, dtype)
        best = max(log, key=lambda row: row["valid"])
        runs[seed] = {"valid": best["valid"], "test": best["test"], "epoch": best["epoch"],
                      "best_test": max(row["test"] for row in log), "learning_curve": log}  # fmt: skip
        print(f"seed {seed}:", {k: v for k, v in runs[seed].items() if k != "learning_curve"}, flush=True)
    for name in ("valid", "test", "best_test"):
        values = [run[name] for run in runs.values()]
        print(f"{name:10s} {statistics.mean(values):.1f} +- {statistics.stdev(values) if len(values) > 1 else 0:.1f}")
    name = "published_dcls_training" + ("" if kind == "published" else f"_{kind}")
    measure.write(name, {**measure.setting(), "data": args.data_dir.name, "runs": runs})


if __name__ == "__main__":
    main()
