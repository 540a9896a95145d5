"""Meszaros et al., Fig. 6: spoken commands with feed-forward and recurrent networks, with and without delays."""

import dataclasses

from . import eventprop_shd
from .engine.data.heidelberg import SSC

# As for SHD but for the regularisation of the second layer and shorter initial delays: also the sizes (Table 4; the figure
# names 128, 256 and 512) and the readout weights, N(0.02, 0.03) (Table 4 has N(0.02, 0.3) for the recurrent network)
ARCHITECTURES = {
    "feedforward": (*eventprop_shd.ARCHITECTURES["feedforward"][:2], (2e-9, 2e-9), 50.0),
    "recurrent": eventprop_shd.ARCHITECTURES["recurrent"],
}

RECIPE = dataclasses.replace(
    eventprop_shd.RECIPE,
    name="eventprop_ssc",
    title="Spoken commands with and without trainable delays: Meszaros et al., Fig. 6",
    source="Meszaros, Knight, Nowotny: Efficient event-based delay learning in spiking neural networks (2025), Fig. 6, "
    "section 2.4, Table 4",
    paper_data="SSC",
    paper_protocol="test accuracy of the best validation epoch, stopped when it no longer rises (the best network, "
    "feed-forward with delays: 76.1 ± 1.0 %)",
    rows=eventprop_shd.rows(ARCHITECTURES, {}),  # the text gives one number, of a network whose size it does not state
    source_of_data=dataclasses.replace(
        eventprop_shd.RECIPE.source_of_data,
        augmentation="shift",  # "for SSC we only used the shift augmentation"
        paper_criterion="valid_accuracy",
        published=SSC,
    ),
    smoke=eventprop_shd.RECIPE.smoke | {"rows": ("feedforward-64-delays", "recurrent-64-delays")},
)
