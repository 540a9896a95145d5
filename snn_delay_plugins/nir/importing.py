"""NIR to networks of either framework."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from ..checks import check_choice, check_flag
from ..models import MODELS
from ..models.model import NeuronModel
from .building import ours_of
from .needed import DT, NIRError, check_dt, nir
from .network import NIRNetwork, sequential
from .reading import Graph, graph_of
from .targets import TARGETS

__all__ = ["import_nir"]

FrameworkName = Literal["snntorch", "spikingjelly"]


def import_nir(
    graph: nir.NIRGraph | str | Path, framework: FrameworkName = "snntorch", *, dt: float | None = None,
    sequences: bool = True, models: Iterable[NeuronModel] = (), dtype: torch.dtype = torch.float32,
) -> nn.Sequential | NIRNetwork:  # fmt: skip
    """A graph of NIR, or the file that holds one, as a network of layers and neurons of a framework.

    Delay and Linear nodes side by side become one :class:`DelayedLinear` with whole delays (or a convolution), ``LIF``,
    ``CubaLIF``, ``LI`` and what :func:`export_nir` wrote the neurons of this package. A chain is a ``Sequential``, anything
    else a :class:`~snn_delay_plugins.nir.network.NIRNetwork`; parameters can be trained.

    :param framework: ``"snntorch"`` or ``"spikingjelly"``.
    :param dt: seconds of a time step. Default: what the graph says, else 0.1 ms.
    :param sequences: the network takes ``[T, N, *]``; ``False``: one step ``[N, *]`` per call.
    :param models: models of your own that :func:`export_nir` wrote.
    :raises NIRError: for files that are damaged, cycles that are no neuron of ours, nodes that are unknown or have
        parameters that no layer has, and delays that are no whole steps of dt, naming the node.

    Example::

        >>> import nir, numpy as np, torch
        >>> graph = nir.NIRGraph.from_list(nir.Delay(np.array([0.0, 2e-4])), nir.Affine(np.ones((3, 2)), np.zeros(3)),
        ...                                nir.LIF(*(np.full(3, value) for value in (1e-3, 1.0, 0.0, 0.5))))
        >>> net = import_nir(graph, framework="spikingjelly", dt=1e-4)
        >>> [type(module).__name__ for module in net], net[0].delay[0].tolist()
        (['DelayedLinear', 'HeterogeneousLIFNode'], [0.0, 2.0])
    """
    check_choice("framework", framework, tuple(TARGETS))
    checked = graph_of(graph)
    seconds = _dt_of(checked) if dt is None else check_dt(dt)
    known = {**MODELS, **{model.name: model for model in models}}
    target = TARGETS[framework](check_flag("sequences", sequences), known)
    parts = ours_of(checked, target, seconds, dtype)
    net = sequential(parts, checked) or NIRNetwork(parts, checked)
    net = net.to(dtype)
    target.finish(net)
    return net


def _dt_of(graph: Graph) -> float:
    written = graph.metadata.get("dt", DT)
    try:
        return check_dt(float(np.asarray(written).item()))
    except (TypeError, ValueError) as error:
        raise NIRError(f"the graph: its metadata has dt={written!r}, no positive number of seconds") from error
