"""Deckers et al., Fig. 8: the delays that each connection has learned."""

import functools

from . import deckers_table1
from .deckers import distributions
from .engine.command.view import View

PAPER = ("centred around 0 and 1", "centred around 0 and 1", "spread wider")  # section A.6, connection by connection

RECIPE = View(
    name="deckers_fig8",
    title="Trained delays of the three connections: Deckers et al., Fig. 8",
    source="Deckers et al. (2023), section A.6, Fig. 8: the network of Fig. 6",
    of=deckers_table1.RECIPE,
    networks=("adlif-plus-delays",),
    tabulate=functools.partial(distributions.table_of_delays, paper=PAPER),
    draw=distributions.draw_delays,
)
