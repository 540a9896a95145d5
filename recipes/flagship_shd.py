"""The recommended network for spoken words in SHD's format, in three sizes."""

from .engine.command.recipe import Row, TableRecipe
from .engine.data.augmented_counts import AugmentedCounts
from .engine.data.binned import Binning
from .flagship.network import FlagshipNetwork
from .flagship.training import FlagshipObjective, FlagshipTraining

ROWS = (
    Row("20k", "C-SiLIF, 20k parameters", {"hidden": [80, 80], "dropout": 0.1}, {}),
    Row("75k", "C-SiLIF, 75k parameters", {"hidden": [200, 200], "dropout": 0.3}, {}),
    Row("250k", "C-SiLIF, 250k parameters", {"hidden": [420, 420], "dropout": 0.5}, {}),
)

RECIPE = TableRecipe(
    name="flagship_shd",
    title="The recommended network on recordings in SHD's format",
    source="this package; neurons of Fabre et al., arXiv 2506.06374",
    paper_data="none",
    paper_protocol="no published figures",
    rows=ROWS,
    network=FlagshipNetwork,
    network_settings={},
    training=FlagshipTraining(epochs=100, batch_size=32, learning_rate=4e-3, weight_decay=0.01, average=0.997),
    objective=FlagshipObjective,
    source_of_data=AugmentedCounts(
        Binning(duration=1.0, steps=100, group=5),
        # chosen by cross-validation over the speakers of DSP20's training set
        {"time_stretch": 0.25, "time_shift": 80.0, "channel_shift": 50.0},  # times in ms, channels of 700
    ),
    seeds=5,
    protocol="clean",
    smoke={
        "rows": ["20k"],
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 5, "batch_size": 48},
        "network": {"hidden": [32, 32], "norm_momentum": 0.2},
    },
)
