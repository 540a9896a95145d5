"""Hammouamri et al., Fig. 5: what learning delays adds to delays, and annealing to learning, fully connected and with
ten synapses per neuron."""

import dataclasses

from . import dcls_table2
from .engine.command.recipe import Row

FIXED_DELAYS = {"connections": "fixed random delays"}
NO_DELAYS = {"connections": "no delays"}
SPARSE = {"synapses": 10}
VARIANTS = (
    ("decreasing", "decreasing sigma", {}, {}),
    ("constant", "constant sigma", {}, {"sigma": "constant"}),
    ("fixed-delays", "fixed random delays", FIXED_DELAYS, {}),
    ("fixed-weights", "decreasing sigma, fixed weights", {"learn_weights": False}, {}),
    # 388 neurons without delays have the parameters of 256 with delays; so have 20 synapses without of 10 with delays.
    ("no-delays", "no delays, equal parameter count", NO_DELAYS, {}),
)
MORE_FOR_NO_DELAYS = {"full": {"hidden": [388, 388]}, "sparse": {"synapses": 20}}


def _rows(kind: str, connectivity: str, shared: dict) -> tuple[Row, ...]:
    return tuple(
        Row(
            f"{kind}-{key}",
            f"{connectivity}: {name}",
            shared | settings | (MORE_FOR_NO_DELAYS[kind] if settings is NO_DELAYS else {}),
            {},  # the paper draws bars without numbers
            training,
        )
        for key, name, settings, training in VARIANTS
    )


RECIPE = dataclasses.replace(
    dcls_table2.SHD,
    name="dcls_fig5",
    title="Learned, fixed and no delays: Hammouamri et al., Fig. 5",
    source="Hammouamri, Khalfaoui-Hassani, Masquelier: Learning Delays in Spiking Neural Networks using Dilated "
    "Convolutions with Learnable Spacings (2023), section 4.3 and Fig. 5",
    paper_data="SHD and SSC",
    paper_protocol="best epoch on the test (SHD) or validation set (SSC)",
    rows=_rows("full", "all connections", {}) + _rows("sparse", "10 synapses per neuron", SPARSE),
    figures=("bars", "learning_curves"),
    smoke={
        "rows": ["full-decreasing", "sparse-decreasing", "sparse-fixed-delays", "sparse-no-delays"],
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 2, "batch_size": 48},
        "network": {"hidden": [24, 24], "dropout": 0.1},
    },
)
