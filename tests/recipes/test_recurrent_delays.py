"""The network of recurrent delays, and its training."""

import pytest
import torch
from torch import nn

from recipes.engine.training.averages import WeightAverage
from recipes.engine.training.networks import count_parameters
from recipes.flagship.recurrent import RECURRENCE, RecurrentNetwork
from recipes.flagship.training import FlagshipObjective, FlagshipTraining
from recipes.recurrent_delays_shd import RECIPE
from snn_delay_plugins.spikingjelly import DelayedLinear


def test_the_rows_have_equal_numbers_of_parameters():
    counts = [count_parameters(RECIPE.build(140, 20, RECIPE.settings_of(row)).network) for row in RECIPE.rows]
    assert max(counts) < 1.01 * min(counts)


@pytest.mark.parametrize("recurrence", RECURRENCE)
def test_every_parameter_of_a_recurrent_network_learns(recurrence):
    torch.manual_seed(0)
    network = RecurrentNetwork(20, 4, hidden=(16, 12), recurrence=recurrence, max_delay=5, dropout=0.0)
    for hidden in network.hidden:
        nn.init.constant_(hidden.norm.weight, 6.0)  # so that all neurons spike
    objective = FlagshipObjective(network, FlagshipTraining(epochs=1, batch_size=6))
    objective.optimizer()
    objective.measure(torch.randint(0, 8, (6, 40, 20), dtype=torch.uint8), torch.arange(6) % 4).loss.backward()
    named = dict(network.named_parameters())
    assert [name for name, p in named.items() if p.grad is None or not p.grad.any()] == []
    assert sum(name.endswith("delay") for name in named) == 2 * (recurrence == "learned delays")
    assert sum(name.endswith("neuron.weight") for name in named) == 2 * (recurrence != "none")


def test_a_kind_of_recurrence_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"recurrence must be one of none, .*, got 'other'"):
        RecurrentNetwork(4, 2, recurrence="other")


def test_the_average_of_delays_lies_where_delays_have_to():
    layer = DelayedLinear(3, 2, max_delay=4, delay=4.0)
    average = WeightAverage(layer, 0.5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    optimizer.register_step_post_hook(lambda *_: average.update())
    layer.delay.grad = torch.full_like(layer.delay, -3.0)
    optimizer.step()
    with average.used():
        assert (layer.delay == 4.0).all()
