"""``python docs/figures/overview.py``: the picture of the README, of a layer with delays that has learned an interval."""

from pathlib import Path

import matplotlib
import torch
from torch import nn

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from snn_delay_plugins import plot
from snn_delay_plugins.snntorch import DelayedLinear, StateAdLIFPlus

STEPS, LAGS, HIDDEN = 60, torch.tensor([5, 12, 19]), 24


def batch(size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight channels spike together, eight others so many steps later as the label says."""
    labels, first = torch.randint(len(LAGS), (size,)), torch.randint(3, 20, (size,))
    spikes, sample = (torch.rand(STEPS, size, 16) < 0.01).float(), torch.arange(size)
    for channel in range(8):
        jitter = torch.randint(-1, 2, (2, size))
        spikes[first + jitter[0], sample, channel] = 1
        spikes[first + LAGS[labels] + jitter[1], sample, 8 + channel] = 1
    return spikes, labels


def main() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        DelayedLinear(16, HIDDEN, max_delay=25, delay="uniform", step_mode=False),
        StateAdLIFPlus(features=HIDDEN),
        nn.Linear(HIDDEN, len(LAGS)),
    )
    others = [parameter for name, parameter in net.named_parameters() if name != "0.delay"]
    optimizer = torch.optim.Adam([{"params": others, "lr": 1e-2}, {"params": [net[0].delay], "lr": 0.2}])
    for _ in range(400):
        spikes, labels = batch()
        loss = nn.functional.cross_entropy(net(spikes).sum(0), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    states = plot.record(net[1], net[0](spikes))
    neuron = int(states["spikes"][:, 0].sum(0).argmax())
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained", width_ratios=(1.4, 1, 1.4))
    plot.arrivals(spikes, net[0], neuron, axes[0], senders=12, title=f"spikes on their way to neuron {neuron}")
    plot.delay_histogram(net[0], axes[1], bins=25, title="delays learned")
    plot.neuron_trace(
        states["mem"], states["spikes"], axes[2], w=states["w"], v_threshold=states["threshold"], neuron=neuron,
        ylabel=f"states of AdLIF+ neuron {neuron}",
    )  # fmt: skip
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)


if __name__ == "__main__":
    main()
