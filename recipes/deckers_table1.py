"""Deckers et al., Table 1 (and Table 4): what adaptation and synaptic delays add to a LIF network on SHD."""

from .deckers.network import DeckersNetwork
from .engine.command.recipe import Row, TableRecipe
from .engine.data.binned import BinnedCounts, Binning
from .engine.training.hyperparameters import Hyperparameters
from .engine.training.objectives import SummedSoftmax

MAX_DELAY = 25  # time steps of 10 ms; "Delay caps" in Table 3

ROWS = (
    Row("lif", "Basic LIF", {"preset": "lif"}, {"mean": 84.49, "max": 86.22, "parameters": "37.9k", "spikes": 10.75}),
    Row("adlif", "AdLIF", {"preset": "adlif"}, {"mean": 91.67, "max": 93.85, "parameters": "38.7k", "spikes": 10.7}),
    Row(
        "adlif-plus", "AdLIF+", {"preset": "adlif+"}, {"mean": 94.19, "max": 95.14, "parameters": "38.7k", "spikes": 10.28}
    ),
    Row(
        "lif-delays",
        "Synaptic delay LIF",
        {"preset": "lif", "max_delay": MAX_DELAY},
        {"mean": 92.18, "max": 93.02, "parameters": "74.8k", "spikes": 13.7},
    ),
    Row(
        "adlif-plus-delays",
        "Synaptic delay AdLIF+",
        {"preset": "adlif+", "max_delay": MAX_DELAY},
        {"mean": 95.02, "max": 96.26, "parameters": "75.8k", "spikes": 11.48},
    ),
    # Not in the paper, which starts all delays at zero and does not augment.
    Row(
        "adlif-plus-uniform-delays",
        "Synaptic delay AdLIF+, uniform initial delays",
        {"preset": "adlif+", "max_delay": MAX_DELAY, "initial_delay": "uniform"},
        {},
    ),
    Row(
        "adlif-plus-uniform-delays-shifts",
        "Synaptic delay AdLIF+, uniform initial delays, channels shifted in training",
        {"preset": "adlif+", "max_delay": MAX_DELAY, "initial_delay": "uniform", "channel_shift": 8},
        {},
    ),
)

PUBLISHED = tuple(row.key for row in ROWS if row.paper)

RECIPE = TableRecipe(
    name="deckers_table1",
    title="Adaptation and synaptic delays: Deckers et al., Table 1",
    source="Deckers, Van Damme, Tsang, Van Leekwijck, Latré: Co-learning synaptic delays, weights and "
    "adaptation in spiking neural networks (2023), Tables 1, 3 and 4",
    paper_data="SHD",
    paper_protocol="best epoch on the test set",
    rows=ROWS,
    network=DeckersNetwork,
    network_settings={"hidden": [128, 128], "dropout": 0.5},
    training=Hyperparameters(
        epochs=100,
        batch_size=128,
        learning_rate=0.01,
        delay_rate_factor=10.0,
        plateau_factor=0.7,
        plateau_patience=5,
        min_learning_rate=1e-6,  # sparch's; the text gives none
    ),
    objective=SummedSoftmax,
    source_of_data=BinnedCounts(Binning(duration=1.0, steps=100, group=5)),
    seeds=10,
    protocol="clean",
    smoke={
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 5, "batch_size": 48},
        "network": {"hidden": [32, 32], "norm_momentum": 0.2},
    },
)
