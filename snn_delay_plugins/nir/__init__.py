"""Networks to and from NIR, the Neuromorphic Intermediate Representation (Pedersen et al., Nature Communications 2024).

>>> import pathlib, tempfile, torch
>>> from snn_delay_plugins.nir import export_nir, import_nir
>>> from snn_delay_plugins.snntorch import DelayedLinear, StateAdLIFPlus
>>> net = torch.nn.Sequential(DelayedLinear(20, 5, max_delay=3, delay="uniform", kernel="round", step_mode=False),
...                           StateAdLIFPlus(features=5))
>>> spikes = (torch.rand(30, 2, 20) < 0.3).float()
>>> path = pathlib.Path(tempfile.mkdtemp()) / "net.nir"
>>> graph = export_nir(net, spikes, path)
>>> again = import_nir(path, framework="spikingjelly")
>>> torch.equal(again(spikes), net.eval()(spikes))
True

NIR is in seconds and continuous; layers and neurons here are in steps of ``dt`` seconds (default 0.1 ms, as in the
exporters of snnTorch and SpikingJelly), and NIR's differential equations are meant as simulators of it compute them, by
Euler's steps of dt: a membrane with the leak alpha per step is one with tau = dt / (1 - alpha).

What becomes what: ``docs/nir.md``.
"""

from __future__ import annotations

from .export import export_nir
from .importing import import_nir
from .needed import NIRError

__all__ = ["NIRError", "export_nir", "import_nir"]
