"""Deckers et al., Fig. 6: what the neurons of the first hidden layer have learned."""

import functools

from . import deckers_table1
from .deckers import distributions
from .engine.command.view import View

LAYER = 0
EVEN = "spread evenly"
PAPER = {"alpha": EVEN, "beta": EVEN, "a": EVEN, "b": "most at zero"}  # section A.5

RECIPE = View(
    name="deckers_fig6",
    title="Trained parameters of the first hidden layer: Deckers et al., Fig. 6",
    source="Deckers et al. (2023), section A.5, Fig. 6: one network of 95.45 % validation accuracy",
    of=deckers_table1.RECIPE,
    networks=("adlif-plus-delays",),
    tabulate=functools.partial(distributions.table_of_neurons, layer=LAYER, paper=PAPER),
    draw=functools.partial(distributions.draw_neurons, layer=LAYER),
)
