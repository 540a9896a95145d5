"""mlGeNN's EventProp with delays, on GeNN's single-threaded CPU back end, with the parameters of a network of ours.

    python benchmarks/mlgenn_peer.py [--max-delay 64]

compares hidden spikes and gradients of mlGeNN and of our grid and exact schemes on the network of ``eventprop_workload``;
``eventprop_step.py`` imports :class:`MlGenn` for its table. docs/benchmarks/README.md says how to install mlGeNN.

What a step of mlGeNN holds: it runs the backward pass of the previous sample in the same loop over time as the forward
pass of the next one. With one sample again and again, a pass over the T steps is one forward and one backward pass, which
cannot be told apart. Timed are: gradients to zero, reset, input and label set, T steps called from Python, readout read,
softmax. Not timed: the update of weights and delays, shuffling, metrics and callbacks. GeNN compiles for the CPU without
any optimisation unless told ``optimize_code=True`` (-O3 -ffast-math).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time

import measure
import numpy as np
import torch
from eventprop_workload import DURATION, HIDDEN, inputs, parameters

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.functional.losses import voltage_cross_entropy

RING = 500  # mlGeNN's default room for the spikes of a neuron


class MlGenn:
    """``parameters``: hidden weight, hidden delay, readout weight, [out, in] each; dt = 1 ms, time constants as ours."""

    def __init__(self, parameters: list[torch.Tensor], max_delay: int, steps: int, optimised: bool):
        for tool in ("make", "g++"):
            if shutil.which(tool) is None:
                raise measure.Absent(f"{tool}, with which GeNN compiles, is not installed")
        try:
            from ml_genn import Connection, Network, Population
            from ml_genn.compilers import EventPropCompiler
            from ml_genn.compilers.event_prop_compiler import default_params
            from ml_genn.connectivity import Dense
            from ml_genn.neurons import LeakyIntegrate, LeakyIntegrateFire, SpikeInput
            from ml_genn.synapses import Exponential
        except ImportError as error:
            raise measure.Absent(f"{error}; docs/benchmarks/README.md says how to install mlGeNN") from error
        weight, delay, out = (p.detach().numpy().T.copy() for p in parameters)
        network = Network(default_params)
        with network:
            self.inputs = Population(SpikeInput(max_spikes=100_000), weight.shape[0])
            hidden = Population(LeakyIntegrateFire(v_thresh=1.0, tau_mem=20.0, tau_refrac=None), weight.shape[1])
            self.outputs = Population(LeakyIntegrate(tau_mem=20.0, readout="avg_var_exp_weight"), out.shape[1])
            first = Connection(self.inputs, hidden, Dense(weight, delay), Exponential(5.0), max_delay_steps=max_delay)
            second = Connection(hidden, self.outputs, Dense(out), Exponential(5.0))
        self.network = EventPropCompiler(
            example_timesteps=steps,
            losses="sparse_categorical_crossentropy",
            delay_learn_conns=[first],
            batch_size=1,
            max_spikes=RING,
            backend="single_threaded_cpu",
            optimize_code=optimised,
        ).compile(network, name="peer")
        self.steps, self.model = steps, self.network.genn_model
        self.hidden = self.network.neuron_populations[hidden]
        self.variables = [
            (self.network.connection_populations[c].vars[name], p.shape)
            for c, name, p in ((first, "Gradient", weight), (first, "DelayGradient", delay), (second, "Gradient", out))
        ]
        self.code = tempfile.TemporaryDirectory(prefix="genn-")
        self.model.build(self.code.name)
        self.model.load(num_recording_timesteps=steps)
        self.network.neuron_populations[self.outputs].set_dynamic_param_value("Trial", 1)  # a previous sample exists

    def step(self, events: SpikeEvents, target: int) -> tuple[float, int]:
        """Seconds of one pass (module heading), spikes of the hidden neurons in it."""
        from ml_genn.utils.data import preprocess_spikes

        sample = preprocess_spikes(events.times.detach().numpy(), events.units.numpy(), events.num_units)
        loss, population = self.network.losses[self.outputs], self.network.neuron_populations[self.outputs]
        before = self._written()
        start = time.perf_counter()
        self.model.timestep = 0
        self.model.custom_update("ZeroGradient")
        self.model.custom_update("Reset")
        self.network.set_input({self.inputs: [sample]})
        loss.set_target(population, [target], self.outputs.shape, 1, self.steps)
        for step in range(self.steps):
            if step == self.steps - 1:
                self.model.custom_update("ZeroOutPost")
            self.model.step_time()
        self.network.get_readout(self.outputs)
        for part in ("BatchSoftmax1", "BatchSoftmax2", "BatchSoftmax3"):
            self.model.custom_update(part)
        seconds = time.perf_counter() - start
        return seconds, int(((self._written() - before) % RING).sum())

    def spikes(self, events: SpikeEvents, target: int) -> list[np.ndarray]:
        """Spike times of each hidden neuron in another pass."""
        first = self._written()
        self.step(events, target)
        ring = self.hidden.extra_global_params["RingSpikeTime"]
        ring.pull_from_device()
        return [
            times[np.arange(a, a + (b - a) % RING) % RING]
            for times, a, b in zip(ring.view.reshape(-1, RING), first, self._written(), strict=True)
        ]

    def gradients(self) -> list[np.ndarray]:
        """Those of the pass before the last, shapes [out, in]: hidden weight, hidden delay, readout weight."""
        for variable, _ in self.variables:
            variable.pull_from_device()
        return [np.array(variable.view).reshape(shape).T.astype(float) for variable, shape in self.variables]

    def _written(self) -> np.ndarray:
        offset = self.hidden.vars["RingWriteOffset"]
        offset.pull_from_device()
        return np.array(offset.view).ravel().astype(int)


def comparable(events: SpikeEvents, end: float) -> SpikeEvents:
    """Events on which both codes do the same: one per unit and step (mlGeNN's input population lets a second one wait a
    step), none after ``end`` (mlGeNN hands arrivals of spikes in a sample's last two steps on to the next sample)."""
    step, unit = np.ceil(events.times.detach().numpy()), events.units.numpy()
    step, unit = np.unique(np.stack([step, unit])[:, step < end], axis=1)
    return SpikeEvents.from_lists([step], [unit.astype(int)], num_units=events.num_units, duration=events.duration)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-delay", type=int, default=64)
    parser.add_argument("--end", type=float, default=0.6 * DURATION, help="no input events after this time, ms")
    args = parser.parse_args()
    events = inputs(1)
    network = parameters(args.max_delay, events)
    events = comparable(events, args.end)
    try:
        peer = MlGenn(network, args.max_delay, int(DURATION), optimised=True)
    except measure.Absent as error:
        parser.exit(1, f"mlGeNN cannot run here: {error}\n")
    for _ in range(3):
        theirs = peer.spikes(events, 3)
    rows = []
    for mode in ("grid", "exact"):
        loss_scale = DURATION  # mlGeNN averages over T where our loss integrates
        for p in network:
            p.grad = None
        hidden = eventprop_lif(events, *network[:2], spike_times=mode)
        voltage = eventprop_li(hidden, network[2], spike_times=mode)
        voltage_cross_entropy(voltage / loss_scale, torch.tensor([3])).backward()
        spikes = [hidden.times[hidden.units == j].detach().numpy() for j in range(HIDDEN)]
        same = sum(len(a) == len(b) and np.allclose(a, b, atol=1e-3) for a, b in zip(spikes, theirs, strict=True))
        for name, p, gradient in zip(("weights", "delays", "readout weights"), network, peer.gradients(), strict=True):
            mine = p.grad.numpy().astype(float)
            scale = (mine * gradient).sum() / (mine**2).sum()
            rows.append({
                "scheme": mode, "equal spike trains": f"{same} of {HIDDEN}", "gradient of": name,
                "cosine": float((mine * gradient).sum() / np.linalg.norm(mine) / np.linalg.norm(gradient)),
                "mlGeNN / ours": scale,
                "largest |mlGeNN - scaled ours| / largest": abs(gradient - scale * mine).max() / abs(gradient).max(),
            })  # fmt: skip
    print(measure.markdown([{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]))


if __name__ == "__main__":
    main()
