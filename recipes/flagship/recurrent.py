"""The flagship's network with recurrent synapses in every hidden layer."""

from collections.abc import Sequence

from torch import nn

from snn_delay_plugins.spikingjelly import DelayedRecurrent

from .network import FlagshipNetwork

RECURRENCE = ("none", "one step", "fixed delays", "learned delays")


class RecurrentNetwork(FlagshipNetwork):
    """:class:`FlagshipNetwork` whose hidden neurons also have synapses from all to all of their layer.

    Args:
        recurrence: one of :data:`RECURRENCE`. "one step": a spike arrives in the next step. "fixed delays" and "learned
            delays": 1 + d steps later, d of every synapse drawn uniformly between 0 and ``max_delay`` and left there, or
            learned by the SLAYER rule.
        others: as of :class:`FlagshipNetwork`; ``max_delay`` is that of its feed-forward ``delays`` too.

    Raises ValueError for a word that is none of those above.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        hidden: Sequence[int] = (64, 64),
        neuron: str = "CSiLIF",
        recurrence: str = "learned delays",
        delays: str = "none",
        max_delay: int = 30,
        dropout: float = 0.1,
        norm_momentum: float = 0.05,
    ):
        if recurrence not in RECURRENCE:
            raise ValueError(f"recurrence must be one of {', '.join(RECURRENCE)}, got {recurrence!r}")
        super().__init__(
            inputs,
            classes,
            hidden=hidden,
            neuron=neuron,
            delays=delays,
            max_delay=max_delay,
            dropout=dropout,
            norm_momentum=norm_momentum,
        )
        if recurrence == "none":
            return
        for block in self.hidden:
            block.neuron = _recurrent(block.neuron, recurrence, max_delay)
            block.neuron.support = None  # unknown: the next connection takes all


def _recurrent(neuron: nn.Module, recurrence: str, max_delay: int) -> DelayedRecurrent:
    if recurrence == "one step":
        return DelayedRecurrent(neuron, max_delay=0, learn_delay=False, step_mode="m")
    learned = recurrence == "learned delays"
    return DelayedRecurrent(neuron, max_delay=max_delay, delay="uniform", learn_delay=learned, step_mode="m")
