"""One sample in a trained network with delays: what spikes when, and when it arrives.

Not a figure of the paper, but what its Fig. 1 sketches, measured: the spikes of the first hidden layer, the same spikes
where they arrive at one neuron of the second, and that neuron's membrane potential. The neuron is the one that spikes most.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from spikingjelly.activation_based import functional

from . import deckers_table1
from .deckers.network import DeckersNetwork
from .engine.command.plan import Plan
from .engine.command.program import PROGRAM
from .engine.command.view import View, best_run, facts, folder_of, weights, which
from .engine.errors import OptionError, RunError, one_line
from .engine.files import atomic
from .engine.results.runs import RunStore
from .engine.results.tables import Sheet
from .engine.training.networks import as_input

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORDING = "raster.npz"  # in the run's folder
SAMPLE = 0  # of the test set
SENDERS = 30  # those with the largest weights are drawn


@dataclasses.dataclass(frozen=True)
class Recording:
    """Times are time steps. ``sender``, ``sent``, ``arrives`` and ``weight`` hold one entry per spike of the first hidden
    layer, on its way to ``neuron`` of the second."""

    inputs: np.ndarray  # counts [T, channels]
    hidden: np.ndarray  # spikes [T, neurons] of the first layer
    sender: np.ndarray
    sent: np.ndarray
    arrives: np.ndarray
    weight: np.ndarray
    membrane: np.ndarray  # [T] of the neuron
    spikes: np.ndarray  # times at which it spikes
    neuron: int
    label: int

    def as_lists(self) -> dict:
        """For JSON: of the two arrays of counts the size, and every place that is not 0 with its count."""
        lists = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}
        for name in ("inputs", "hidden"):
            dense = getattr(self, name)
            places = dense.nonzero()
            lists[name] = {
                "size": list(dense.shape),
                "step": places[0].tolist(),
                "unit": places[1].tolist(),
                "count": dense[places].tolist(),
            }
        return lists

    @classmethod
    def of_lists(cls, lists: dict) -> "Recording":
        whole = ("sender", "sent", "spikes")
        arrays = {
            name: np.array(value, dtype=int if name in whole else float) if isinstance(value, list) else value
            for name, value in lists.items()
        }
        for name in ("inputs", "hidden"):
            dense = np.zeros(lists[name]["size"])
            dense[lists[name]["step"], lists[name]["unit"]] = lists[name]["count"]
            arrays[name] = dense
        return cls(**arrays)


def record(network: DeckersNetwork, counts: torch.Tensor, label: int) -> Recording:
    """One sample, counts ``[T, channels]``, in evaluation."""
    first, second = network.hidden[0], network.hidden[1]
    spikes: dict[int, torch.Tensor] = {}
    hooks = [
        layer.neuron.register_forward_hook(lambda module, args, out, i=i: spikes.__setitem__(i, out[:, 0]))
        for i, layer in enumerate((first, second))
    ]
    second.neuron.store_v_seq = True
    network.eval()
    with torch.no_grad():
        network(as_input(counts[None]))
    for hook in hooks:
        hook.remove()
    neuron = int(spikes[1].sum(0).argmax())
    sent, sender = spikes[0].nonzero(as_tuple=True)
    connection, membrane = second.connection, second.neuron.v_seq[:, 0, neuron]
    functional.reset_net(network)
    return Recording(
        inputs=counts.numpy(),
        hidden=spikes[0].numpy(),
        sender=sender.numpy(),
        sent=sent.numpy(),
        arrives=(sent + connection.delay[neuron, sender]).detach().numpy(),
        weight=connection.weight[neuron, sender].detach().numpy(),
        membrane=membrane.numpy(),
        spikes=spikes[1][:, neuron].nonzero()[:, 0].numpy(),
        neuron=neuron,
        label=label,
    )


@dataclasses.dataclass(frozen=True)
class Raster(View):
    """Records its sample in ``run``, while the data are at hand; ``table`` and ``plot`` read the recording."""

    def prepare(self, runs: list[dict], planned: Plan) -> None:
        run, splits, store = best_run(runs), planned.load(), planned.store
        counts, labels = splits.test.batch(np.array([SAMPLE]), np.random.default_rng(0))
        objective = self.of.build(splits.inputs, splits.classes, run["settings"])
        objective.network.load_state_dict(weights(self.of, store, run))
        recording = record(objective.network, counts[0], int(labels[0]))
        with atomic.replacing(folder_of(store, run) / RECORDING) as part, open(part, "wb") as file:
            np.savez(file, **dataclasses.asdict(recording))


def recorded(store: RunStore, run: dict) -> Recording:
    path = folder_of(store, run) / RECORDING
    if not path.exists():
        raise OptionError(f"{path}: not there; make it with: {PROGRAM} run deckers_raster")
    try:
        if not path.is_file():
            raise ValueError("not a file")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {field.name: stored[field.name] for field in dataclasses.fields(Recording)}
        found = Recording(**arrays | {name: int(arrays[name]) for name in ("neuron", "label")})
        _check(found)
    except Exception as error:  # whatever a damaged archive leads to
        raise RunError(f"{path}: damaged ({one_line(error)}); delete it and run deckers_raster again") from error
    return found


def _check(recording: Recording) -> None:
    """Raises ValueError where the arrays do not belong together."""
    steps = len(recording.membrane)
    sizes = {len(getattr(recording, name)) for name in ("sender", "sent", "arrives", "weight")}
    if recording.inputs.ndim != 2 or recording.hidden.ndim != 2 or recording.membrane.ndim != 1 or len(sizes) != 1:
        raise ValueError("arrays of other shapes than a recording's")
    for name in ("sent", "spikes"):
        times = getattr(recording, name)
        if times.ndim != 1 or times.dtype.kind not in "iu" or not ((times >= 0) & (times < steps)).all():
            raise ValueError(f"{name} are no time steps of the sample")
    for name in ("inputs", "hidden", "arrives", "weight", "membrane"):
        if not np.isfinite(getattr(recording, name)).all():
            raise ValueError(f"{name} are not finite")


def tabulate(view: View, runs: list[dict], store: RunStore) -> Sheet:
    """How many spikes there are, and by how much the delays spread them."""
    run = best_run(runs)
    seen = recorded(store, run)
    steps, delay = len(seen.membrane), seen.arrives - seen.sent
    mean, longest = (float(delay.mean()), float(delay.max())) if len(delay) else (0.0, 0.0)
    rows = {
        "events of the sample": int(seen.inputs.sum()),
        "spikes of hidden layer 1": len(seen.sent),
        f"mean delay on the way to neuron {seen.neuron} of hidden layer 2 (steps)": mean,
        "longest delay of a spike (steps)": longest,
        "arrive after the end": int((seen.arrives >= steps).sum()),
        f"spikes of neuron {seen.neuron}": len(seen.spikes),
    }
    cells = [[name, f"{value:.2f}" if isinstance(value, float) else f"{value:,d}"] for name, value in rows.items()]
    remarks = [
        f"Test sample {SAMPLE} (class {seen.label}) of {run['data']['name']} in {which(run)}.",
        "Not a figure of the paper.",
    ]
    shown = facts([run], rows) | {"recording": seen.as_lists()}
    return Sheet(view.name, view.title, ["", f"{run['data']['name']}"], cells, remarks, shown)


def draw(view: View, facts: dict) -> "Figure":
    """Input, hidden spikes, the same spikes as they arrive (red: inhibitory), and the neuron's membrane potential."""
    import matplotlib.pyplot as plt

    from snn_delay_plugins.plot import raster

    seen = Recording.of_lists(facts["recording"])
    figure, (inputs, hidden, arrivals, membrane) = plt.subplots(
        4, 1, figsize=(8, 10), sharex=True, layout="constrained", height_ratios=(1, 1, 1.4, 0.8)
    )
    raster(seen.inputs, inputs, s=4.0, xlabel="", ylabel="input channel")
    raster(seen.hidden, hidden, s=4.0, xlabel="", ylabel="neuron of hidden layer 1")
    strongest = dict.fromkeys(seen.sender[np.argsort(-np.abs(seen.weight), kind="stable")].tolist())
    rows = {sender: row for row, sender in enumerate(list(strongest)[:SENDERS])}
    for sender, sent, arrives, weight in zip(seen.sender, seen.sent, seen.arrives, seen.weight, strict=True):
        if sender in rows:
            y, colour = rows[sender], "tab:red" if weight < 0 else "tab:blue"
            arrivals.plot([sent, arrives], [y, y], color=colour, lw=0.7, alpha=0.5)
            arrivals.plot(sent, y, "|", color="black", ms=4)
            arrivals.plot(arrives, y, "o", color=colour, ms=2.5)
    arrivals.set_ylabel(f"senders to neuron {seen.neuron} of layer 2,\nby weight: sent (|), arrives (o)")
    arrivals.invert_yaxis()
    membrane.plot(seen.membrane, color="tab:blue", lw=1)
    membrane.axhline(1.0, color="black", lw=0.6, ls=":")
    membrane.plot(seen.spikes, seen.membrane[seen.spikes], "o", color="black", ms=3)
    membrane.set(ylabel=f"u of neuron {seen.neuron}", xlabel="time step of 10 ms")
    named = f"test sample {SAMPLE}, class {seen.label}: {facts['runs'][0]['chosen']}"
    figure.suptitle(f"{view.title}\n{named}", fontsize="small")
    return figure


RECIPE = Raster(
    name="deckers_raster",
    title="Spikes and their delayed arrivals in a trained network of Deckers et al.",
    source="Deckers et al. (2023), Fig. 1 sketches it",
    of=deckers_table1.RECIPE,
    networks=("adlif-plus-delays",),
    tabulate=tabulate,
    draw=draw,
)
