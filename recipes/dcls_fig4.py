"""Hammouamri et al., Fig. 4: the delay kernels of one neuron through a training, from wide Gaussians to single taps.

The kernels of the same eight synapses of one hidden neuron of dcls_table2's SHD network at the start, half-way down the
annealing, at the end, and after rounding. The paper does not say which neuron it shows.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from snn_delay_plugins.functional.dcls import gaussian_kernel
from snn_delay_plugins.functional.delay import delay_kernel

from . import dcls_table2
from .engine.command.view import View, best_run, checkpoint, damaged, facts, which
from .engine.errors import OptionError
from .engine.results.runs import RunStore
from .engine.results.tables import Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYER, NEURON = 1, 0  # counted from 0; the readout is the last layer
SYNAPSES = 8


@dataclasses.dataclass(frozen=True)
class Picture:
    """Kernels ``[taps, synapses]`` of one neuron, the latest tap first as in the paper's index n."""

    title: str
    kernels: np.ndarray


def gaussian(weight: Tensor, delay: Tensor, sigma: float, max_delay: int) -> np.ndarray:
    """The kernels of synapses with these weights and delays, in the paper's order: tap n = T_d - 1 - lag."""
    kernel = gaussian_kernel(weight[None], delay[None], torch.tensor(sigma), max_delay)
    return kernel[:, 0].flip(0).numpy()


def discrete(weight: Tensor, delay: Tensor, max_delay: int) -> np.ndarray:
    """Likewise, with every delay rounded."""
    kernel = delay_kernel(weight[None], delay[None], max_delay, "round")[: max_delay + 1]
    return kernel[:, 0].flip(0).numpy()


def moments(run: dict, store: RunStore) -> list[dict]:
    """epoch, sigma, weight and delay of the synapses at the start, half-way and at the end of a run."""
    state, objective = checkpoint(dcls_table2.SHD, store, run)
    watched = objective.get("watched", []) if isinstance(objective, dict) else None
    if not isinstance(watched, list):
        raise damaged(store, run, "last.ckpt", "holds no kernels")
    if len(watched) < 2:
        raise OptionError(
            f"{store.folder}: {run['network']} seed {run['seed']} is of an earlier version or too short (one "
            "epoch): its kernels were not kept; run it again into another --out"
        )
    place = f"hidden.{LAYER}.connection"
    weight, delay, sigma = (state[f"{place}.{name}"] for name in ("weight", "delay", "sigma"))
    if not all(_is_moment(at, weight.shape[1]) for at in watched[:2]):
        raise damaged(store, run, "last.ckpt", "its kernels are not those of this network")
    epochs = run["settings"]["training"]["epochs"]
    last = {"epoch": epochs, "weight": weight, "delay": delay, "sigma": float(sigma)}
    found = [{"epoch": at["epoch"], **at["layers"][LAYER]} for at in watched[:2]] + [last]
    senders = np.random.default_rng(run["seed"]).choice(weight.shape[1], SYNAPSES, replace=False)
    return [at | {name: at[name][NEURON, senders] for name in ("weight", "delay")} for at in found]


def _is_moment(at: object, senders: int) -> bool:
    """Whether these are the kernels of a layer with so many senders, as a training has watched them."""
    try:
        layer = at["layers"][LAYER]
        kernels = torch.stack([layer["weight"][NEURON], layer["delay"][NEURON]])
        numbers = torch.tensor([float(at["epoch"]), float(layer["sigma"])])
    except (TypeError, KeyError, IndexError, ValueError, RuntimeError, AttributeError):
        return False
    return kernels.shape == (2, senders) and bool(kernels.isfinite().all() and numbers.isfinite().all() and numbers[1] > 0)


def pictures(found: list[dict], longest: int) -> list[Picture]:
    """Of the moments, and of the last one's delays rounded; ``longest`` delay of the network."""
    found = [at | {name: torch.as_tensor(at[name]) for name in ("weight", "delay")} for at in found]
    shown = [
        Picture(
            f"epoch {at['epoch']}, sigma = {at['sigma']:.2f}", gaussian(at["weight"], at["delay"], at["sigma"], longest)
        )
        for at in found
    ]
    return [*shown, Picture("rounded", discrete(found[-1]["weight"], found[-1]["delay"], longest))]


def tabulate(view: View, runs: list[dict], store: RunStore) -> Sheet:
    """Where the kernels are: delay and weight of every synapse at the three moments."""
    run = best_run(runs)
    found = moments(run, store)
    headings = ["synapse"] + [f"epoch {at['epoch']}: {what}" for at in found for what in ("delay (steps)", "weight")]
    cells = [
        [str(n), *(text for at in found for text in (f"{at['delay'][n]:.2f}", f"{at['weight'][n]:+.4f}"))]
        for n in range(SYNAPSES)
    ]
    rows = [at | {name: at[name].tolist() for name in ("weight", "delay")} for at in found]
    remarks = [
        f"Paper: {view.source}; its neuron and synapses are not named.",
        f"Ours: synapses drawn at random of neuron {NEURON} of hidden layer {LAYER + 1} of {which(run)}.",
        "sigma: " + ", ".join(f"{at['sigma']:.2f} at epoch {at['epoch']}" for at in found) + ".",
    ]
    return Sheet(view.name, view.title, headings, cells, remarks, facts([run], rows))


def draw(view: View, facts: dict) -> "Figure":
    import matplotlib.pyplot as plt

    shown = pictures(facts["rows"], facts["settings"]["network"]["max_delay"])
    figure, panels = plt.subplots(1, len(shown), figsize=(3 * len(shown), 4), sharey=True, layout="constrained")
    for letter, axes, picture in zip("abcd", panels, shown, strict=True):
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


RECIPE = View(
    name="dcls_fig4",
    title="Delay kernels through training: Hammouamri et al., Fig. 4",
    source="Hammouamri, Khalfaoui-Hassani, Masquelier (2023), Fig. 4",
    of=dcls_table2.SHD,
    networks=("hidden-2",),
    tabulate=tabulate,
    draw=draw,
)
