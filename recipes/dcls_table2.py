"""Hammouamri et al., Table 2: networks whose delays are learned through a Gaussian, on SHD, SSC and GSC."""

import dataclasses

from .dcls.network import DclsObjective, DclsTraining, HammouamriNetwork, TimedCounts
from .engine.command.per_dataset import PerDataset
from .engine.command.recipe import Row, TableRecipe
from .engine.data.heidelberg import SSC
from .engine.data.speech_commands import SpeechCommands

SOURCE = (
    "Hammouamri, Khalfaoui-Hassani, Masquelier: Learning Delays in Spiking Neural Networks using Dilated Convolutions "
    "with Learnable Spacings (2023), Tables 1 and 2; numbers that the text leaves out from the published code"
)
# The paper gives margins of 95 % confidence over ten (SHD) and five seeds; these are the standard deviations they mean.
SHD = TableRecipe(
    name="dcls_table2_shd",
    title="Learned delays (DCLS): Hammouamri et al., Table 2, SHD",
    source=SOURCE,
    paper_data="SHD",
    paper_protocol="best epoch on the test set",
    rows=(
        Row("hidden-2", "2 hidden layers of 256", {}, {"mean": 95.07, "std": 0.34, "parameters": "0.2M"}),
        # Not in the paper.
        Row("no-delays", "without delays, equal parameter count", {"connections": "no delays", "hidden": [388, 388]}, {}),
    ),
    network=HammouamriNetwork,
    network_settings={"hidden": [256, 256], "time_constant": 1.005, "max_delay": 24, "dropout": 0.4},
    training=DclsTraining(epochs=150, batch_size=256),
    objective=DclsObjective,
    source_of_data=TimedCounts(1.4),
    seeds=10,
    protocol="clean",
    smoke={
        "rows": ["hidden-2"],
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 8, "batch_size": 48},  # the fewest whose annealing has a middle
        "network": {"hidden": [32, 32], "dropout": 0.1},
    },
)
_LARGE = {"hidden": [512, 512], "time_constant": 1.5, "max_delay": 30, "dropout": 0.25}
_LAYERS_3 = {"hidden": [512, 512, 512]}
SSC = dataclasses.replace(
    SHD,
    name="dcls_table2_ssc",
    title="Learned delays (DCLS): Hammouamri et al., Table 2, SSC",
    paper_data="SSC",
    paper_protocol="best epoch on the validation set",
    rows=(
        Row("hidden-2", "2 hidden layers of 512", {}, {"mean": 79.77, "std": 0.07, "parameters": "0.7M"}),
        Row("hidden-3", "3 hidden layers of 512", _LAYERS_3, {"mean": 80.29, "std": 0.05, "parameters": "1.2M"}),
    ),
    network_settings=_LARGE,
    training=DclsTraining(epochs=60, batch_size=128),
    source_of_data=TimedCounts(1.0, SSC, "valid_accuracy"),
    seeds=5,
    smoke=SHD.smoke | {"training": {"epochs": 3, "batch_size": 48}},
)
GSC = dataclasses.replace(
    SSC,
    name="dcls_table2_gsc",
    title="Learned delays (DCLS): Hammouamri et al., Table 2, GSC",
    paper_data="GSC-35",
    rows=(
        Row("hidden-2", "2 hidden layers of 512", {}, {"mean": 94.91, "std": 0.07, "parameters": "0.7M"}),
        Row("hidden-3", "3 hidden layers of 512", _LAYERS_3, {"mean": 95.29, "std": 0.09, "parameters": "1.2M"}),
        # Not in the paper.
        Row(
            "no-delays",
            "2 hidden layers without delays, equal parameter count",
            {"connections": "no delays", "hidden": [755, 755]},
            {},
        ),
        Row("small", "2 hidden layers of 256", {"hidden": [256, 256]}, {}),
        Row(
            "small-no-delays",
            "2 hidden layers without delays, as many parameters as 256 with them",
            {"connections": "no delays", "hidden": [386, 386]},
            {},
        ),
    ),
    training=DclsTraining(epochs=100, batch_size=128),
    source_of_data=SpeechCommands(),
)

RECIPE = PerDataset(
    name="dcls_table2",
    title="Learned delays (DCLS) on SHD, SSC and GSC: Hammouamri et al., Table 2",
    parts={"shd": SHD, "ssc": SSC, "gsc": GSC},
)
