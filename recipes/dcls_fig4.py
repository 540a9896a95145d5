"""Hammouamri et al., Fig. 4: the delay kernels of one neuron through a training, from wide Gaussians to single taps.

A network with learned delays is trained (its settings are those of dcls_table2) and the kernels of the same eight
synapses of one hidden neuron are drawn at the start, half-way down the annealing, at its end, and after rounding.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from recipes.engine import atomic, options
from recipes.engine.dcls import DclsObjective, DclsTraining, HammouamriNetwork, TimedCounts
from recipes.engine.objectives import Moment
from recipes.engine.options import OptionError
from recipes.engine.training import seed_everything
from snn_delay_plugins.functional.dcls import gaussian_kernel
from snn_delay_plugins.functional.delay import delay_kernel
from snn_delay_plugins.spikingjelly import DelayedLinear

SYNAPSES = 8


@dataclasses.dataclass(frozen=True)
class Picture:
    """Kernels ``[taps, synapses]`` of one neuron, the latest tap first as in the paper's index n."""

    title: str
    kernels: np.ndarray


def kernels_of(layer: DelayedLinear, neuron: int, senders: Tensor, discrete: bool) -> np.ndarray:
    """The kernels of some synapses of ``layer``, in the paper's order: tap n = T_d - 1 - lag."""
    with torch.no_grad():
        weight, delay = layer.weight[neuron, senders][None], layer.delay[neuron, senders][None]
        if discrete:
            kernel = delay_kernel(weight, delay, layer.max_delay, "round")[: layer.max_delay + 1]
        else:
            kernel = gaussian_kernel(weight, delay, layer.sigma, layer.max_delay)
    return kernel[:, 0].flip(0).numpy()


def train_and_watch(
    network: HammouamriNetwork, training: DclsTraining, inputs, seed: int, layer: int, neuron: int
) -> list[Picture]:
    """Train, and look at the kernels before it, after half of the annealing, and at the end."""
    objective = DclsObjective(network, training)
    optimizer = objective.optimizer()
    watched = network.connections[layer]
    senders = torch.from_numpy(np.random.default_rng(seed).choice(watched.in_features, SYNAPSES, replace=False))
    half = max(1, training.epochs // 8)
    batches = -(-len(inputs) // training.batch_size)
    pictures = []
    for epoch in range(training.epochs):
        seed_everything(seed, epoch)
        network.train()
        objective.before_epoch(epoch)
        if epoch in (0, half):
            title = f"epoch {epoch}, sigma = {watched.sigma.item():.2f}"
            pictures.append(Picture(title, kernels_of(watched, neuron, senders, discrete=False)))
        order = np.random.default_rng([seed, epoch]).permutation(len(inputs))
        for batch in range(batches):
            which = order[batch * training.batch_size : (batch + 1) * training.batch_size]
            objective.before_batch(optimizer, Moment(epoch, batch, batches))
            measured = objective.measure(*inputs.batch(which, np.random.default_rng([seed, epoch, batch])))
            optimizer.zero_grad()
            measured.loss.backward()
            optimizer.step()
    objective.before_epoch(training.epochs)
    title = f"epoch {training.epochs}, sigma = {watched.sigma.item():.2f}"
    pictures.append(Picture(title, kernels_of(watched, neuron, senders, discrete=False)))
    pictures.append(Picture("discrete", kernels_of(watched, neuron, senders, discrete=True)))
    return pictures


class Figure4:
    name = "dcls_fig4"
    title = "Delay kernels through training: Hammouamri et al., Fig. 4"
    default_out = "results/dcls_fig4"
    paper_used = f"The paper used: SHD, T_d 25; the neuron and its synapses are not given.\n{__doc__}"
    source = TimedCounts(1.4)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        options.add_common(parser, self.default_out)
        options.add_data(parser, self.source.folder, self.source.published)
        self.source.add_options(parser)
        parser.add_argument("--epochs", type=options.positive, help="(default 60, with --smoke 8)")
        parser.add_argument("--seed", type=int, default=0, help="(default 0)")
        parser.add_argument("--layer", type=int, default=1, help="of the network, from 0 (default 1)")
        parser.add_argument("--neuron", type=int, default=0, help="of the layer, from 0 (default 0)")

    def run(self, given: argparse.Namespace) -> int:
        """Train, write the kernels and draw them."""
        source = self.source.with_options(given)
        if given.smoke:
            source, data_dir = source.smoke()
        else:
            data_dir = given.data_dir
        out = options.writable_folder(self._out(given))
        splits = source.load(data_dir or source.download(given.offline), "clean")
        hidden = (24, 24) if given.smoke else (256, 256)
        training = DclsTraining(given.epochs or (8 if given.smoke else 60), 48 if given.smoke else 256)
        seed_everything(given.seed)
        network = HammouamriNetwork(splits.inputs, splits.classes, hidden=hidden)
        sizes = (*hidden, splits.classes)
        if not 0 <= given.layer < len(sizes) or not 0 <= given.neuron < sizes[given.layer]:
            raise OptionError(f"--layer {given.layer} --neuron {given.neuron}: the layers have {sizes} neurons")
        pictures = train_and_watch(network, training, splits.train, given.seed, given.layer, given.neuron)
        with atomic.replacing(out / f"{self.name}.npz") as part, open(part, "wb") as file:
            np.savez(file, titles=[p.title for p in pictures], kernels=np.stack([p.kernels for p in pictures]))
        print(f"Written: {out / self.name}.npz")
        return self.plot(given)

    def table(self, given: argparse.Namespace) -> int:
        """Where the kernels are: delay and weight of every synapse after the training."""
        pictures = self._pictures(given)
        discrete = pictures[-1].kernels
        print("synapse  delay  weight")
        for synapse in range(discrete.shape[1]):
            tap = np.abs(discrete[:, synapse]).argmax()
            print(f"{synapse:7}  {len(discrete) - 1 - tap:5}  {discrete[tap, synapse]: .4f}")
        return 0

    def plot(self, given: argparse.Namespace) -> int:
        from recipes.engine import plots

        path = plots.save(_draw(self._pictures(given)), self._out(given) / f"{self.name}.png")
        print(f"Written: {path}")
        return 0

    def _out(self, given: argparse.Namespace) -> Path:
        return given.out or Path(self.default_out + ("-smoke" if given.smoke else ""))

    def _pictures(self, given: argparse.Namespace) -> list[Picture]:
        path = self._out(given) / f"{self.name}.npz"
        if not path.exists():
            raise OptionError(f"{path}: not there; make it with: python -m recipes run {self.name}")
        with np.load(path, allow_pickle=False) as stored:
            return [Picture(str(t), k) for t, k in zip(stored["titles"], stored["kernels"], strict=True)]


def _draw(pictures: list[Picture]) -> Figure:
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(pictures), figsize=(3 * len(pictures), 4), sharey=True, layout="constrained")
    for letter, axes, picture in zip("abcd", panels, pictures, strict=True):
        taps, synapses = picture.kernels.shape
        scale = 0.9 / np.abs(picture.kernels).max(0)  # each kernel as high as its row
        for synapse in range(synapses):
            bumps = np.abs(picture.kernels[:, synapse]) * scale[synapse]
            peak = picture.kernels[bumps.argmax(), synapse]
            colour = "tab:red" if peak < 0 else "tab:blue"
            axes.fill_between(range(taps), synapse, synapse + bumps, step="mid", color=colour, alpha=0.7)
        axes.set(title=f"({letter}) {picture.title}", xlabel="n")
    panels[0].set_ylabel("synapse (blue: excitatory, red: inhibitory)")
    return figure


RECIPE = Figure4()
