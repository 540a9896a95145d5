"""Learned recurrent delays beside fixed ones, none, and feed-forward ones, at equal numbers of parameters."""

from .engine.command.recipe import Row, TableRecipe
from .engine.data.augmented_counts import AugmentedCounts
from .engine.data.binned import Binning
from .flagship.recurrent import RecurrentNetwork
from .flagship.training import FlagshipObjective, FlagshipTraining

ROWS = (
    Row("one-step", "recurrent, no delays", {"recurrence": "one step", "hidden": [65, 65]}, {}),
    Row("fixed", "fixed random recurrent delays", {"recurrence": "fixed delays", "hidden": [65, 65]}, {}),
    Row("learned", "learned recurrent delays", {"recurrence": "learned delays", "hidden": [54, 54]}, {}),
    Row(
        "feed-forward",
        "learned feed-forward delays, not recurrent",
        {"recurrence": "none", "delays": "synaptic", "hidden": [54, 54]},
        {},
    ),
)

RECIPE = TableRecipe(
    name="recurrent_delays_shd",
    title="Learned recurrent delays beside fixed ones, none, and feed-forward ones",
    source="this package; recurrent delays as in Queant et al., arXiv 2509.24852",
    paper_data="none",
    paper_protocol="no published figures",
    rows=ROWS,
    network=RecurrentNetwork,
    network_settings={"neuron": "CSiLIF", "max_delay": 30, "dropout": 0.1},
    training=FlagshipTraining(epochs=15, batch_size=32, learning_rate=4e-3, weight_decay=0.01, average=0.99),
    objective=FlagshipObjective,
    source_of_data=AugmentedCounts(
        Binning(duration=1.0, steps=100, group=5), {"time_stretch": 0.15, "time_shift": 50.0, "channel_shift": 50.0}
    ),
    seeds=3,
    protocol="clean",
    smoke={
        "rows": ["learned"],
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 5, "batch_size": 48},
        "network": {"hidden": [32, 32], "norm_momentum": 0.2},
    },
)
