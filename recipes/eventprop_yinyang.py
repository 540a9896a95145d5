"""Meszaros et al., Fig. 4: Yin-Yang with 5 to 30 hidden neurons, with and without trainable delays."""

from .engine.command.recipe import Row, TableRecipe
from .eventprop.network import FirstSpikeError, FirstSpikeNetwork, FirstSpikeTraining
from .eventprop.yin_yang import Encoding, YinYang

HIDDEN = (5, 10, 15, 20, 25, 30)

RECIPE = TableRecipe(
    name="eventprop_yinyang",
    title="Yin-Yang with and without trainable delays: Meszaros et al., Fig. 4",
    source="Meszaros, Knight, Nowotny: Efficient event-based delay learning in spiking neural networks (2025), Fig. 4, "
    "section 2.2, Table 2",
    paper_data="Yin-Yang",
    paper_protocol="test accuracy of the best validation epoch; Fig. 4 gives no numbers",
    rows=tuple(
        Row(f"{hidden}-{key}", f"{hidden} hidden, {name}", {"hidden": hidden, "delays": delays}, {}, training)
        for delays, key, name, training in (
            # as in the published code, each has its own learning rate
            (False, "weights", "weights only", {"learning_rate": 0.02}),
            (True, "delays", "weights and delays", {"learning_rate": 0.01}),
        )
        for hidden in HIDDEN
    )
    # the price of small steps: dt = 1 ms is 100 times the paper's
    + tuple(
        Row(
            f"30-delays-{scheme}-{dt:g}",
            f"30 hidden, weights and delays, {scheme} scheme at dt = {dt:g} ms",
            {"hidden": 30, "delays": True, "spike_times": scheme, "dt": dt},
            {},
            {"learning_rate": 0.01},
        )
        for scheme, dt in (("exact", 0.01), ("grid", 0.01), ("grid", 0.5))
    ),
    network=FirstSpikeNetwork,
    # With the paper's weights most neurons of our network are silent at the start (its inputs spike once each): wider and
    # stronger here.
    network_settings={"input_weight": [2.5, 1.2], "output_weight": [1.0, 1.0], "dt": 1.0, "spike_times": "exact"},
    training=FirstSpikeTraining(
        epochs=300,
        batch_size=150,
        learning_rate=0.01,
        delay_learning_rate=0.1,  # ms
        decay=0.99,
        bump=0.05,
        delta_t=2.0,
    ),
    objective=FirstSpikeError,
    source_of_data=YinYang(Encoding(early=1.5, late=20.0, duration=60.0)),
    seeds=5,
    paper_instead={
        "seeds": "8",
        "learning_rate": "0.001 (published code: 0.005 to 0.02, by row)",
        "delay_learning_rate": "0.01 ms (published code: 0.025 to 0.1)",
        "decay": "0.998",
        "dt": "0.01 ms",
        "input_weight": "[2, 0.78]",
        "output_weight": "[0.93, 0.1] (published code: [1, 1] for both)",
    },
    protocol="clean",
    smoke={
        "rows": ("5-weights", "5-delays", "30-weights", "30-delays", "30-delays-grid-0.5"),
        "seeds": 1,
        "threads": 1,
        "training": {"epochs": 4, "batch_size": 60},
    },
    figures=("accuracy_over_hidden", "learning_curves"),
)
