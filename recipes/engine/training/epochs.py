"""What is measured of an epoch, and which epoch a protocol chooses."""

import csv
import io

import torch
from torch import Tensor

from . import parallel


class Tally:
    """Sums over samples, for means that weigh every sample alike, however the batches fell."""

    names = ("loss", "accuracy", "spikes")

    def __init__(self):
        self.samples, self.sums = 0, dict.fromkeys(self.names, 0.0)

    def add(self, samples: int, **sums: Tensor) -> None:
        self.samples += samples
        for name, value in sums.items():
            self.sums[name] = self.sums[name] + value.detach().double()

    def means(self, device: torch.device | None = None) -> dict[str, float]:
        """Over the samples of all processes."""
        sums = torch.tensor([self.samples, *map(float, self.sums.values())], dtype=torch.float64, device=device)
        samples, *values = parallel.total(sums).tolist()
        return {name: value / samples for name, value in zip(self.sums, values, strict=True)}


def best_epoch(history: list[dict], metric: str) -> dict:
    """The epoch with the highest ``metric``; of equals the first."""
    return max(history, key=lambda entry: entry[metric])


def chosen_epochs(history: list[dict], criteria: dict[str, str]) -> dict[str, dict]:
    """The epoch that each protocol chooses, by its criterion."""
    kept = ("epoch", "train_accuracy", "valid_accuracy", "valid_spikes", "test_accuracy", "test_spikes")
    return {
        protocol: {name: value for name, value in best_epoch(history, metric).items() if name in kept}
        for protocol, metric in criteria.items()
    }


def as_csv(history: list[dict]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    return text.getvalue()
