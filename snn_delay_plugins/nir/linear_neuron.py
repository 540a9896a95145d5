r"""Neurons that are linear between their spikes, as primitives of NIR.

The step of such a neuron (:mod:`snn_delay_plugins.functional.linear_neuron`) is what Euler's method makes of NIR's
equations:

.. math::
    \tau \dot v = v_{leak} - v + R I \quad\Rightarrow\quad v[t] = (1 - \tfrac{dt}{\tau})\, v[t-1]
    + \tfrac{dt}{\tau} (v_{leak} + R I[t]), \qquad \tau = \frac{dt}{1 - A_{00}}, \quad R = \frac{B_0}{1 - A_{00}}.

Reset to a value: NIR's ``LIF``, or behind a synaptic current ``CubaLIF``. Everything else that is linear is a small graph
of ``LI`` (membrane, adaptation), ``Threshold`` and ``Scale`` nodes with cycles. A cycle takes one step, beside what its
``Delay`` nodes say: NIR's cycles have no delay in continuous time, and simulators in steps break them so. nirtorch does
where a node comes before what feeds it, in the order of the file, which is that of the names: so these are numbered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .fragment import Fragment, single
from .needed import nir, refuse

__all__ = ["NEVER", "LinearNeuron", "leaky_integrator", "nodes_of"]

NEVER = 1e30
"""A threshold that no potential reaches."""


@dataclass
class LinearNeuron:
    """Coefficients, each one value per neuron, float64 (or a number).

    :param A, B, r, c, theta: as in :class:`~snn_delay_plugins.functional.linear_neuron.Coefficients`.
    :param reset_to: the value to which a spike resets the membrane at once; None: it does not.
    :param leak_to: where the membrane goes without input.
    :param symplectic: a spike and the membrane act on the second state in their own step; then r0 is what a spike adds
        to the membrane at once, and A10 and r1 are times 1 - A11.
    :param fed: where the second state is a synaptic current: what of its value after the step goes into the membrane.
    :param words: how the coefficients are called by the user: ``{"A10": "a"}``.
    :param graded: what a spike is multiplied with when it is passed on.
    """

    shape: tuple[int, ...]
    theta: np.ndarray
    A00: np.ndarray
    B0: np.ndarray
    r0: np.ndarray
    A01: np.ndarray = field(default_factory=lambda: np.zeros(()))
    A10: np.ndarray = field(default_factory=lambda: np.zeros(()))
    A11: np.ndarray | None = None
    B1: np.ndarray = field(default_factory=lambda: np.zeros(()))
    r1: np.ndarray = field(default_factory=lambda: np.zeros(()))
    c: np.ndarray = field(default_factory=lambda: np.zeros(()))
    reset_to: float | None = None
    leak_to: float = 0.0
    symplectic: bool = False
    words: Mapping[str, str] = field(default_factory=dict)
    graded: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("theta", "A00", "B0", "r0", "A01", "A10", "A11", "B1", "r1", "c"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, np.broadcast_to(np.asarray(value, dtype=np.float64), self.shape))

    def word(self, name: str) -> str:
        return self.words.get(name, name)


def nodes_of(where: str, of: LinearNeuron, dt: float) -> Fragment:
    """The nodes of these neurons: one where NIR has them, else a nested graph.

    :raises NIRError: where NIR has no words for them, naming the parameter.
    """
    for name in ("A00", "A11"):
        leak = getattr(of, name)
        if leak is not None and np.any(leak >= 1) and not np.all(leak == 1):
            refuse(where, f"{of.word(name)} reaches {leak.max():g} per step: NIR's leaks are all below 1, or all 1")
    fragment = _primitive(where, of, dt)
    if fragment is None:
        fragment = single(where, _graph(where, of, dt))
    if of.graded is not None and not np.all(of.graded == 1):
        fragment = _then(fragment, f"{where}_graded", nir.Scale(np.broadcast_to(of.graded, of.shape).astype(float)))
    return fragment


def leaky_integrator(where: str, of: LinearNeuron, dt: float) -> Fragment:
    """The membrane alone, which does not feel its spikes."""
    if of.A11 is not None:
        refuse(where, "the membrane potential of a neuron with two states is no output that NIR knows")
    if (np.any(of.r0) and np.any(of.theta < NEVER)) or of.reset_to is not None:
        refuse(
            where, "its membrane potential is used, which NIR's spiking neurons do not show; a readout needs reset 'none'"
        )
    tau, r = _tau(of.A00, dt), _relative(of.B0, of.A00)
    if tau is None:
        return single(where, nir.I(of.B0 / dt))
    return single(where, nir.LI(tau, r, np.full(of.shape, of.leak_to)))


def _primitive(where: str, of: LinearNeuron, dt: float) -> Fragment | None:
    """NIR's own LIF, CubaLIF or IF, where it is one of these."""
    if of.reset_to is None:
        return None
    reset = np.full(of.shape, of.reset_to)
    tau = _tau(of.A00, dt)
    if of.A11 is None:
        if tau is None:
            return single(where, nir.IF(of.B0 / dt, of.theta.copy(), reset))
        leak = np.full(of.shape, of.leak_to)
        return single(where, nir.LIF(tau, _relative(of.B0, of.A00), leak, of.theta.copy(), reset))
    fed, tau_syn = _fed(of), _tau(of.A11, dt)
    if fed is None or tau is None or tau_syn is None:
        return None
    node = nir.CubaLIF(
        tau_syn=tau_syn, tau_mem=tau, r=_relative(fed, of.A00), v_leak=np.full(of.shape, of.leak_to),
        v_threshold=of.theta.copy(), v_reset=reset, w_in=_relative(of.B1, of.A11),
    )  # fmt: skip
    return single(where, node)


def _fed(of: LinearNeuron) -> np.ndarray | None:
    """What of a synaptic current goes into the membrane in the same step; None where the second state is none."""
    if of.A11 is None or np.any(of.A10) or np.any(of.r1) or np.any(of.c) or not np.all(of.B1):
        return None
    fed = of.B0 / of.B1
    return fed if np.allclose(of.A01, fed * of.A11, rtol=1e-9, atol=1e-12) else None


def _graph(where: str, of: LinearNeuron, dt: float) -> nir.NIRGraph:
    """LI, Threshold and Scale nodes with cycles."""
    build = _Builder(of.shape)
    membrane, spike = "membrane", "threshold"
    if of.reset_to is None:
        build.leaky(membrane, of.A00, dt, of.leak_to)
        build.nodes[spike] = nir.Threshold(of.theta.copy())
        build.edge(membrane, spike)
    else:  # beside an adaptation that the spikes alone drive
        _check_hidden_potential(where, of)
        spike = membrane
        one = np.ones(of.shape)
        tau = _tau(of.A00, dt)
        if tau is None:
            refuse(where, f"a membrane without leak ({of.word('A00')} = 1) beside an adaptation")
        leak = np.full(of.shape, of.leak_to)
        build.nodes[membrane] = nir.LIF(tau, one, leak, of.theta.copy(), np.full(of.shape, of.reset_to))
    into = 1 - of.A00 if np.all(of.A00 < 1) else np.full(of.shape, dt)
    jump = of.A00 * of.r0 if of.symplectic else of.r0
    if np.any(jump) and of.reset_to is None:
        build.scaled(spike, membrane, "threshold_reset", jump / into)
    fed = _fed(of)
    if of.A11 is None:
        build.scaled("input", membrane, "input_scaled", of.B0 / into)
    elif fed is not None:
        build.leaky("current", of.A11, dt)
        build.scaled("input", "current", "input_scaled", _relative(of.B1, of.A11))
        build.scaled("current", membrane, "current_scaled", fed / into)
    else:
        build.scaled("input", membrane, "input_scaled", of.B0 / into)
        _adaptation(where, build, of, into, spike, dt)
    build.edge(spike, "output")
    return build.graph()


def _adaptation(where: str, build: _Builder, of: LinearNeuron, into: np.ndarray, spike: str, dt: float) -> None:
    """A second state that the membrane (A10) and the spikes (r1) drive, and that drives the membrane (A01) and moves the
    threshold (c)."""
    if np.any(of.B1):
        refuse(where, f"{of.word('B1')}: the input goes into both states, which cycles of NIR nodes do not say")
    assert of.A11 is not None
    if np.all(of.A11 == 1):
        refuse(where, f"{of.word('A11')} = 1: an adaptation without leak is no leaky integrator of NIR")
    own = np.ones(of.shape) if of.symplectic else 1 - of.A11
    from_spikes = of.A10 * of.r0 + of.r1 if of.symplectic else of.r1
    build.leaky("adaptation", of.A11, dt)
    if np.any(of.A10):
        build.scaled("membrane", "adaptation", "adaptation_coupled", of.A10 / own)
    if np.any(from_spikes):
        build.scaled(spike, "adaptation", "adaptation_spike", from_spikes / own)
    if np.any(of.A01):
        source = "adaptation"
        if not of.symplectic:  # the membrane feels the adaptation of the step before
            build.nodes["adaptation_later"] = nir.Delay(np.full(of.shape, dt))
            build.edge(source, "adaptation_later")
            source = "adaptation_later"
        build.scaled(source, "membrane", "adaptation_scaled", of.A01 / into)
    if np.any(of.c):
        build.scaled("adaptation", "threshold", "adaptation_threshold", of.c)


def _check_hidden_potential(where: str, of: LinearNeuron) -> None:
    """Beside NIR's LIF, whose output are spikes, nothing sees the potential."""
    needs = {"A10": "couples the membrane potential to the second state", "c": "moves the threshold"}
    for name, does in needs.items():
        if np.any(getattr(of, name)):
            refuse(
                where,
                f"{of.word(name)} {does}, but a membrane that is reset to {of.reset_to:g} is NIR's LIF, which shows "
                f"spikes alone: use the reset 'subtract', {of.word(name)} = 0, or custom_nodes=True",
            )
    if of.symplectic:
        refuse(where, "variant 'symplectic' with a reset to zero: use the reset 'subtract' or custom_nodes=True")


_ORDER = (
    "input_scaled", "current", "current_scaled", "adaptation", "adaptation_later", "adaptation_scaled",
    "adaptation_threshold", "membrane", "threshold", "threshold_reset", "adaptation_coupled", "adaptation_spike",
)  # fmt: skip
"""In which the nodes of a step are evaluated: what of a node is used before it is that of the step before."""


class _Builder:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []

    def graph(self) -> nir.NIRGraph:
        """The nodes under names that sort in their order, as files list them, behind the input."""
        order = [name for name in _ORDER if name in self.nodes]
        called = {name: f"node{k:02d}_{name}" for k, name in enumerate(order)}
        nodes = {"input": nir.Input({"input": np.array(self.shape)})}
        nodes |= {called[name]: self.nodes[name] for name in order}
        nodes["output"] = nir.Output({"output": np.array(self.shape)})
        edges = [(called.get(source, source), called.get(target, target)) for source, target in self.edges]
        return nir.NIRGraph(nodes, edges, type_check=False)

    def edge(self, source: str, target: str) -> None:
        self.edges.append((source, target))

    def leaky(self, name: str, leak: np.ndarray, dt: float, to: float = 0.0) -> None:
        tau = _tau(leak, dt)
        one = np.ones(self.shape)
        self.nodes[name] = nir.I(one) if tau is None else nir.LI(tau, one, to * one)

    def scaled(self, source: str, target: str, name: str, factor: np.ndarray) -> None:
        """An edge with a factor, a plain one where that is 1."""
        if np.allclose(factor, 1, rtol=1e-9, atol=0):
            self.edge(source, target)
            return
        self.nodes[name] = nir.Scale(np.asarray(factor, dtype=np.float64).copy())
        self.edges += [(source, name), (name, target)]


def _tau(leak: np.ndarray, dt: float) -> np.ndarray | None:
    """tau of a leak per step; None where there is none."""
    if np.all(leak == 1):
        return None
    return dt / (1 - leak)


def _relative(gain: np.ndarray, leak: np.ndarray) -> np.ndarray:
    """R of a gain per step; exactly 1 where the two differ by rounding."""
    if np.all(leak == 1):
        return np.array(gain)
    r = gain / (1 - leak)
    return np.where(np.isclose(r, 1, rtol=1e-9, atol=0), 1.0, r)


def _then(fragment: Fragment, name: str, node: nir.NIRNode) -> Fragment:
    return Fragment(
        {**fragment.nodes, name: node}, fragment.edges + [(end, name) for end in fragment.exits], fragment.entries, [name]
    )
