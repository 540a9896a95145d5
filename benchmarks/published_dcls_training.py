"""How accurate is the published code of Hammouamri et al. on the data at hand, over several seeds?

    git clone https://github.com/Thvnvtos/SNN-delays
    python benchmarks/published_dcls_training.py SNN-delays --data-dir dsp20 --seeds 1,2,3 [--conv1d]

Its model class, loss, optimizers, schedules, clamping, annealing and evaluation, at its SHD configuration without
augmentation; our reader supplies the counts. One thing is replaced: PyTorch's ``conv1d`` by the same sum as one product
per frequency, which is four times faster; ``--conv1d`` leaves it (their first losses are printed for comparison).
A run is saved after every epoch under ``results/published_dcls`` and goes on from there.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import measure
import numpy as np
import torch
from published_dcls import CLASSES, discrete, published_code
from torch import Tensor, nn

from recipes.engine.dcls import TimedCounts

STORE = Path("results/published_dcls")


def convolve(x: Tensor, kernel: Tensor, bias=None, *rest) -> Tensor:
    """``conv1d`` without padding, stride, dilation or groups, the products taken at each frequency."""
    strides, padding, dilation, groups = (rest + ((1,), (0,), (1,), 1)[len(rest) :])
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
            split.batch(np.arange(k, min(k + 200, len(split))), np.random.default_rng(0))
            for k in range(0, len(split), 200)
        ]
        counts = torch.cat([torch.as_tensor(x).to(torch.uint8) for x, _ in parts])
        whole[name] = counts, torch.cat([torch.as_tensor(y) for _, y in parts])
    return whole


def accuracy(model, counts: Tensor, labels: Tensor, batch: int) -> float:
    """As their ``eval_model``: sigma 0 and rounded positions for the evaluation, then back."""
    before = copy.deepcopy(model.state_dict())
    model.eval()
    right = 0
    with torch.no_grad():
        discrete(model)
        for x, y in zip(counts.split(batch), labels.split(batch), strict=True):
            output = model(x.permute(1, 0, 2).float())
            right += int((output.softmax(2).sum(0).argmax(1) == y).sum())
            model.reset_model(train=False)
        for block in model.blocks:
            kernel = block[0][0]
            kernel.version = kernel.DCK.version = "gauss"
        model.load_state_dict(before)
    return 100 * right / len(labels)


def train(folder: Path, data: dict, seed: int, epochs: int, hidden: int) -> list[dict]:
    model, config = published_code(folder, epochs, hidden, seed)
    optimizers = model.optimizers()
    schedules = model.schedulers(optimizers)
    file = STORE / f"seed{seed}_{epochs}_{hidden}.pt"
    log: list[dict] = []
    parts = [model, *optimizers, *schedules]
    if file.exists():
        saved = torch.load(file)
        log = saved["log"]
        for part, state in zip(parts, saved["parts"], strict=True):
            part.load_state_dict(state)
        torch.set_rng_state(saved["random"])
    counts, labels = data["train"]
    for epoch in range(len(log), epochs):
        start, busy = time.perf_counter(), time.process_time()
        model.train()
        losses = []
        for chosen in torch.randperm(len(labels)).split(config.batch_size):
            for optimizer in optimizers:
                optimizer.zero_grad()
            output = model(counts[chosen].permute(1, 0, 2).float())
            loss = model.calc_loss(output, nn.functional.one_hot(labels[chosen], CLASSES).float())
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            losses.append(loss.item())
            model.reset_model(train=True)
        for schedule in schedules:
            schedule.step()
        model.decrease_sig(epoch)
        log.append({
            "epoch": epoch + 1, "first_loss": losses[0], "loss": statistics.mean(losses),
            **{name: accuracy(model, *data[name], config.batch_size) for name in ("valid", "test")},
            "seconds": time.perf_counter() - start, "cpu": time.process_time() - busy,
        })  # fmt: skip
        print(f"seed {seed}", {k: round(v, 4) for k, v in log[-1].items()}, flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        state = {"log": log, "parts": [part.state_dict() for part in parts], "random": torch.get_rng_state()}
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
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.conv1d:
        nn.functional.conv1d = convolve
    published_code(args.folder, args.epochs, args.hidden)   # its modules can be imported from here on
    data = read(args.data_dir, args.duration)
    runs = {}
    for seed in map(int, args.seeds.split(",")):
        log = train(args.folder, data, seed, args.epochs, args.hidden)
        best = max(log, key=lambda row: row["valid"])
        runs[seed] = {"valid": best["valid"], "test": best["test"], "epoch": best["epoch"],
                      "best_test": max(row["test"] for row in log), "learning_curve": log}  # fmt: skip
        print(f"seed {seed}:", {k: v for k, v in runs[seed].items() if k != "learning_curve"}, flush=True)
    for name in ("valid", "test", "best_test"):
        values = [run[name] for run in runs.values()]
        print(f"{name:10s} {statistics.mean(values):.1f} +- {statistics.stdev(values) if len(values) > 1 else 0:.1f}")
    measure.write("published_dcls_training", {**measure.setting(), "data": args.data_dir.name, "runs": runs})


if __name__ == "__main__":
    main()
