"""eventax on a network of ours: started by ``eventprop_vs_eventax.py`` in an interpreter that has eventax and JAX.

    python benchmarks/eventax_peer.py NETWORK.npz RESULT.npz

NETWORK holds ``weight`` and ``delay`` [out, in], ``times`` [in, spikes], ``tau_mem``, ``tau_syn``, ``threshold``,
``duration``, ``spikes`` (more than all neurons will have), ``step`` of the solver, ``repeats`` and ``adjoint``. RESULT gets
``spikes`` [out, spikes] (infinite where there is none), the gradients of the sum of every neuron's first spike time
(eventax's ``ttfs``), ``versions`` and seconds of processor time and on the clock of each run after the first, and of the
first. The spikes come from a run of their own, forward alone, which is not timed.

The network runs in eventax as its own constructor lays it out: every arrival waits in one buffer, and all neurons are
integrated from one arrival to the next. The solver is Tsit5 and the threshold's root is found to 1e-12, so that differences
are not those of a coarse solver.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # read at import

import diffrax
import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from eventax.adjoint import EventPropAdjoint
from eventax.evnn import EvNN
from eventax.neuron_models.lif import LIF

jax.config.update("jax_enable_x64", True)


def network(given: dict[str, np.ndarray]) -> EvNN:
    """eventax's matrices are [from, to], its inputs stand behind its neurons."""
    neurons, inputs = given["weight"].shape
    arrivals = neurons * given["times"].size

    def below(matrix: np.ndarray) -> jax.Array:
        return jnp.concatenate([jnp.zeros((neurons, neurons)), jnp.array(matrix.T)])

    return EvNN(
        LIF, neurons, float(given["duration"]), inputs, key=jax.random.PRNGKey(0), dtype=jnp.float64,
        wmask=below(np.ones_like(given["weight"])), init_weights=below(given["weight"]), init_delays=below(given["delay"]),
        init_bias=0.0, thresh=float(given["threshold"]), tmem=float(given["tau_mem"]), tsyn=float(given["tau_syn"]),
        buffer_capacity=arrivals + 8, max_event_steps=2 * (arrivals + int(given["spikes"])) + 64, solver=diffrax.Tsit5(),
        solver_stepsize=float(given["step"]), root_finder=optimistix.Newton(1e-12, 1e-12, optimistix.rms_norm),
        adjoint=EventPropAdjoint() if str(given["adjoint"]) == "eventprop" else None,
    )  # fmt: skip


def main() -> None:
    given = dict(np.load(sys.argv[1]))
    times = jnp.array(given["times"])

    def loss(net: EvNN) -> jax.Array:
        first = net.ttfs(times)
        return jnp.where(jnp.isfinite(first), first, 0.0).sum()

    gradient = equinox.filter_jit(equinox.filter_value_and_grad(loss))
    net = network(given)
    cpu, clock = [], []
    for _ in range(1 + int(given["repeats"])):
        work, start = time.process_time(), time.perf_counter()
        _, by = gradient(net)
        jax.block_until_ready((by.neuron_model.weights, by.delays))
        cpu.append(time.process_time() - work)
        clock.append(time.perf_counter() - start)
    neurons, duration, most = given["weight"].shape[0], float(given["duration"]), int(given["spikes"])
    spikes = equinox.filter_jit(lambda net: net.spikes_until_t(times, duration, most))(net)
    np.savez(
        sys.argv[2], spikes=spikes, weight=by.neuron_model.weights[neurons:].T, delay=by.delays[neurons:].T,
        first=clock[0], cpu=cpu[1:], clock=clock[1:],
        versions=[f"{name} {importlib.metadata.version(name)}" for name in ("eventax", "jax", "diffrax")],
    )  # fmt: skip


if __name__ == "__main__":
    main()
