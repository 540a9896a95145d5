"""Pictures of spikes, delays and training with matplotlib: every function draws into an ``Axes`` and returns it.

``ax=None`` makes a figure; ``title``, ``xlabel``, ``ylabel``, and for a new figure ``figsize`` and ``dpi``, are options of
all of them, as in ``spikingjelly.visualizing``. ``raster(data, ax, s=2.0, c="black")`` takes what
``snntorch.spikeplot.raster`` takes, and ``neuron_trace(v, s, v_threshold=1.0)`` what ``plot_one_neuron_v_s`` takes.
"""

try:
    import matplotlib as _matplotlib  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "matplotlib":
        raise
    raise ImportError("snn_delay_plugins.plot needs matplotlib: pip install 'snn_delay_plugins[plot]'") from error

from .delays import delay_histogram, delay_matrix
from .kernels import kernel, kernels_over_training
from .rasters import arrivals, raster
from .traces import neuron_trace, record
from .training import gradient_flow, spikes_per_layer

__all__ = [
    "arrivals", "delay_histogram", "delay_matrix", "gradient_flow", "kernel", "kernels_over_training", "neuron_trace",
    "raster", "record", "spikes_per_layer",
]  # fmt: skip
