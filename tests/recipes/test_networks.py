"""The networks and the loss of Deckers et al."""

import pytest
import torch
from spikingjelly.activation_based import functional

from recipes.deckers.network import ChannelShift, DeckersNetwork, SpikeLinear
from recipes.deckers_table1 import ROWS
from recipes.engine.errors import RunError
from recipes.engine.training import checkpoints, losses
from recipes.engine.training.hyperparameters import Hyperparameters
from recipes.engine.training.networks import as_input, count_parameters
from recipes.engine.training.objectives import SummedSoftmax, parameter_groups
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedLinear

COUNTS = {
    "lif": 37_948,
    "adlif": 38_716,
    "adlif-plus": 38_716,
    "lif-delays": 74_812,
    "adlif-plus-delays": 75_580,
    "adlif-plus-uniform-delays": 75_580,
    "adlif-plus-uniform-delays-shifts": 75_580,
}


def small(**changes):
    torch.manual_seed(0)
    return DeckersNetwork(6, 3, **({"hidden": (5, 4), "max_delay": 3} | changes))


def input_counts(steps=12, samples=7, channels=6):
    return torch.poisson(torch.rand(steps, samples, channels, generator=torch.Generator().manual_seed(1)) * 2)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_the_parameter_counts_are_those_of_the_paper(row):
    network = DeckersNetwork(140, 20, **row.settings)
    assert count_parameters(network) == COUNTS[row.key]
    delays = [m for m in network.modules() if isinstance(m, DelayedLinear)]
    assert len(delays) == (3 if "delays" in row.key else 0)  # delays in all three layers, or none


def test_the_weights_start_xavier_uniform_and_biases_and_delays_at_zero():
    for network in (DeckersNetwork(140, 20), DeckersNetwork(140, 20, max_delay=25)):
        for connection, (inputs, outputs) in zip(
            [network.hidden[0].connection, network.hidden[1].connection, network.readout[0]],
            [(140, 128), (128, 128), (128, 20)],
            strict=True,
        ):
            bound = (6 / (inputs + outputs)) ** 0.5
            assert 0.98 * bound < connection.weight.abs().max() <= bound
            assert connection.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
            assert not connection.bias.any()
            assert not getattr(connection, "delay", torch.zeros(1)).any()


def test_the_spikes_are_counted_per_hidden_neuron_and_sample():
    network = small(dropout=0.9, max_delay=None).train()
    recorded = []
    for layer in network.hidden:
        layer.neuron.register_forward_hook(lambda module, inputs, spikes: recorded.append(spikes))
    response = network(input_counts())
    by_hand = [sum(s[:, n].sum() for s in recorded).item() / 9 for n in range(7)]  # before dropout, 5 + 4 neurons
    assert response.spikes.tolist() == pytest.approx(by_hand)
    assert sum(by_hand) > 0 and not response.spikes.requires_grad


def test_a_batch_does_not_see_the_one_before():
    network = small().eval()
    counts = input_counts()
    first = network(counts).membrane
    network(3 * counts)
    torch.testing.assert_close(network(counts).membrane, first, rtol=0, atol=0)


def test_padding_lets_the_last_delayed_spike_arrive():
    network = small(right_padding=None)
    counts = torch.zeros(12, 1, 6)
    counts[-1] = 1.0
    assert network(counts).membrane.shape == (15, 1, 3)
    first = network.hidden[0].connection
    with torch.no_grad():
        first.delay.fill_(3.0)
        first.weight.fill_(1.0)
    arrived = []
    first.register_forward_hook(lambda module, inputs, current: arrived.append(current))
    network(counts)
    assert arrived[0][:, 0, 0].nonzero().flatten().tolist() == [14]


def test_networks_without_delays_are_not_padded():
    assert small(max_delay=None)(input_counts()).membrane.shape[0] == 12
    assert small(max_delay=None, right_padding=4)(input_counts()).membrane.shape[0] == 16


def test_every_weight_delay_and_neuron_parameter_gets_a_gradient():
    network = small(hidden=(20, 20)).train()
    for layer in network.hidden:
        torch.nn.init.constant_(layer.norm.weight, 3.0)  # enough current for every layer to spike
    losses.summed_softmax_cross_entropy(network(input_counts()).membrane, torch.arange(7) % 3).backward()
    for name, parameter in network.named_parameters():
        if name.endswith("connection.bias") or name == "readout.0.bias":
            continue  # the normalisation takes it out again: counted, without effect
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_delays_learn_ten_times_as_fast():
    network = small()
    groups = parameter_groups(network, Hyperparameters(1, 1, 0.01, delay_rate_factor=10.0))
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.1])
    assert [len(group["params"]) for group in groups] == [len(list(network.parameters())) - 3, 3]
    assert {id(p) for p in groups[1]["params"]} == {id(m.delay) for m in network.modules() if isinstance(m, DelayedLinear)}
    assert len(parameter_groups(small(max_delay=None), Hyperparameters(1, 1, 0.01))) == 1


def test_delays_and_neuron_parameters_stay_in_their_bounds():
    network = small().train()
    optimizer = torch.optim.Adam(parameter_groups(network, Hyperparameters(1, 1, 5.0, delay_rate_factor=10.0)))
    for _ in range(3):
        optimizer.zero_grad()
        losses.summed_softmax_cross_entropy(network(input_counts()).membrane, torch.arange(7) % 3).backward()
        optimizer.step()
    for module in network.modules():
        if isinstance(module, DelayedLinear):
            assert module.delay.min() >= 0 and module.delay.max() <= 3
            assert module.delay.max() > 0
        if isinstance(module, AdLIFPlusNode):
            assert module.alpha.min() >= 0.36 and module.alpha.max() <= 0.96 + 1e-6
            assert module.a.min() >= 0 and module.a.max() <= 1


def test_the_normalisation_runs_over_time_and_batch():
    network = small(max_delay=None).train()
    counts = input_counts()
    currents = network.hidden[0].connection(counts)
    normal = network.hidden[0].norm(currents)
    mean, var = currents.mean((0, 1)), currents.var((0, 1), unbiased=False)
    torch.testing.assert_close(normal, (currents - mean) / (var + 1e-5).sqrt())


def test_the_readout_has_no_memory():
    network = small(max_delay=None).eval()
    x = torch.rand(4, 2, 4)
    torch.testing.assert_close(network.readout(x)[2], network.readout(x[2:3])[0])


def test_the_loss_is_equations_3_and_4():
    membrane = torch.randn(5, 4, 3, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1])
    total = 0.0
    for n in range(4):
        u = [sum(membrane[t, n, c].exp().item() / membrane[t, n].exp().sum().item() for t in range(5)) for c in range(3)]
        e = torch.tensor(u, dtype=torch.float64).exp()
        total -= (e[labels[n]] / e.sum()).log().item()
    assert losses.summed_softmax_cross_entropy(membrane, labels).item() == pytest.approx(total / 4)
    torch.testing.assert_close(losses.summed_softmax(membrane).sum(1), torch.full((4,), 5.0, dtype=torch.float64))


def test_stored_counts_become_time_first_numbers():
    counts = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    x = as_input(counts)
    assert x.shape == (3, 2, 4) and x.dtype == torch.float32 and x[2, 1, 3] == 23


def test_reset_is_spikingjellys_own():
    network = small()
    network(input_counts())
    functional.reset_net(network)  # finds every memory: nothing here hides its state
    assert all(not isinstance(m.v, torch.Tensor) for m in network.modules() if isinstance(m, AdLIFPlusNode))


def test_shifted_channels_are_each_samples_own_and_training_alone_sees_them():
    torch.manual_seed(0)
    counts = input_counts(samples=40)
    shift = ChannelShift(2)
    seen = set()
    moved = shift(counts)
    for n in range(40):
        for by in range(-2, 3):
            wanted = torch.zeros_like(counts[:, n])
            for channel in range(6):
                if 0 <= channel + by < 6:
                    wanted[:, channel + by] = counts[:, n, channel]
            if torch.equal(moved[:, n], wanted):
                seen.add(by)
                break
        else:
            raise AssertionError(f"sample {n} was not shifted by a whole number of channels")
    assert seen == {-2, -1, 0, 1, 2}
    assert torch.equal(shift.eval()(counts), counts)


@pytest.mark.parametrize("max_delay", [None, 3])
def test_gradients_that_have_no_effect_need_not_be_computed(max_delay):
    network = small(hidden=(20, 20), max_delay=max_delay, dropout=0.5)
    for layer in network.hidden:
        torch.nn.init.constant_(layer.norm.weight, 3.0)
    gradients = []
    for kept in (True, False):
        for layer in network.hidden:
            layer.neuron.store_support = kept
        torch.manual_seed(3)
        network.zero_grad()
        losses.summed_softmax_cross_entropy(network(input_counts()).membrane, torch.arange(7) % 3).backward()
        assert (network.hidden[0].neuron.support is not None) == kept
        gradients.append([p.grad for p in network.parameters()])
    for limited, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(limited, whole, rtol=1e-4, atol=1e-6)


def test_a_training_begun_with_other_random_numbers_is_not_continued(tmp_path):
    network = DeckersNetwork(6, 3)
    objective = SummedSoftmax(network, Hyperparameters(epochs=2, batch_size=4, learning_rate=0.1))
    history = [{"epoch": 1, "valid_accuracy": 0.5, "learning_rate": 0.1, "seconds": 1.0}]
    kept = {
        "objective": {},
        "history": history,
        "epoch": 0,
        "optimizer_states": [],
        "lr_schedulers": [],
        "loops": {},
        "state_dict": {f"network.{name}": value for name, value in network.state_dict().items()},
    }
    torch.save(kept, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match=r"earlier version.*delete .* to begin the run anew"):
        checkpoints.history_of(tmp_path / "last.ckpt", objective, "valid_accuracy")
    torch.save(kept | {"drawn_as": 3}, tmp_path / "last.ckpt")
    assert checkpoints.history_of(tmp_path / "last.ckpt", objective, "valid_accuracy") == history


def test_linear_layers_on_spikes_are_linear_layers():
    layer = SpikeLinear(6, 4)
    x = (torch.rand(9, 5, 6) < 0.1).float()
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    assert list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize(
    ("initial_delay", "sums", "next_number"),
    [("zeros", [-0.852098, 0.0, 0.0, 2.0, 0.0, 1.40197], 0.2660043239593506),
     ("uniform", [-0.852098, 0.0, 75.205953, 2.0, 0.0, 1.729442], 0.2945019006729126)],
)  # fmt: skip
def test_a_seed_gives_the_network_that_the_published_tables_were_made_with(initial_delay, sums, next_number):
    torch.manual_seed(3)
    network = DeckersNetwork(14, 5, hidden=(8, 6), max_delay=9, initial_delay=initial_delay)
    found = [p.detach().double().flatten()[::7].sum().item() for p in list(network.parameters())[:6]]
    assert found == pytest.approx(sums, abs=1e-5)
    assert torch.rand(1).item() == pytest.approx(next_number, abs=1e-7)  # and what is drawn after it
