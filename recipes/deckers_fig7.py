"""Deckers et al., Fig. 7: what the neurons of the second hidden layer have learned."""

import dataclasses
import functools

from . import deckers_fig6
from .deckers import distributions

LAYER = 1

RECIPE = dataclasses.replace(
    deckers_fig6.RECIPE,
    name="deckers_fig7",
    title="Trained parameters of the second hidden layer: Deckers et al., Fig. 7",
    source="Deckers et al. (2023), section A.5, Fig. 7: the network of Fig. 6",
    tabulate=functools.partial(distributions.table_of_neurons, layer=LAYER, paper=deckers_fig6.PAPER),
    draw=functools.partial(distributions.draw_neurons, layer=LAYER),
)
