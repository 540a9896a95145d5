"""What a raster records of a network is what happens in it."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from recipes import deckers_raster
from recipes.__main__ import main
from recipes.deckers.network import DeckersNetwork


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = DeckersNetwork(12, 4, hidden=(10, 6), max_delay=5, initial_delay="uniform")
    with torch.no_grad():
        made.hidden[0].norm.bias.fill_(1.0)
        made.hidden[1].norm.bias.fill_(1.5)
    return made


@pytest.fixture
def counts():
    return torch.from_numpy(np.random.default_rng(0).poisson(0.3, (30, 12)).astype(np.uint8))


def test_every_spike_arrives_after_the_delay_of_its_synapse(network, counts):
    seen = deckers_raster.record(network, counts, 2)
    assert len(seen.sent) == seen.hidden.sum() > 0 and len(seen.membrane) == len(seen.hidden) == 35
    delay = network.hidden[1].connection.delay[seen.neuron].detach().numpy()
    weight = network.hidden[1].connection.weight[seen.neuron].detach().numpy()
    np.testing.assert_allclose(seen.arrives - seen.sent, delay[seen.sender], rtol=1e-5)
    np.testing.assert_array_equal(seen.weight, weight[seen.sender])
    assert all(seen.hidden[t, j] == 1 for t, j in zip(seen.sent, seen.sender, strict=True))


def test_the_arrivals_are_the_input_current_of_the_neuron(network, counts):
    """Linear interpolation: a spike that arrives at t + f has 1 - f of its weight at t and f at t + 1."""
    seen = deckers_raster.record(network, counts, 2)
    current = np.zeros(len(seen.membrane) + 10)
    whole = np.floor(seen.arrives).astype(int)
    np.add.at(current, whole, seen.weight * (whole + 1 - seen.arrives))
    np.add.at(current, whole + 1, seen.weight * (seen.arrives - whole))
    found = network.hidden[1].connection(torch.from_numpy(seen.hidden)[:, None])[:, 0, seen.neuron]
    np.testing.assert_allclose(current[: len(seen.membrane)], found.detach().numpy(), atol=1e-5)


def test_the_neuron_spikes_where_its_potential_is_at_the_threshold(network, counts):
    seen = deckers_raster.record(network, counts, 2)
    assert len(seen.spikes) > 0
    np.testing.assert_array_equal(np.flatnonzero(seen.membrane >= 1.0), seen.spikes)


def test_the_picture_is_that_of_the_recording_in_the_json(network, counts):
    seen = deckers_raster.record(network, counts, 2)
    again = deckers_raster.Recording.of_lists(json.loads(json.dumps(seen.as_lists(), allow_nan=False)))
    for name, value in vars(seen).items():
        np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
    silent = seen.as_lists() | {name: [] for name in ("sender", "sent", "arrives", "weight", "spikes")}
    plt.close(deckers_raster.draw(deckers_raster.RECIPE, {"recording": silent, "runs": [{"chosen": "one run"}]}))
    facts = {"recording": seen.as_lists(), "runs": [{"chosen": "one run"}]}
    figure = deckers_raster.draw(deckers_raster.RECIPE, facts)
    inputs, hidden, _, membrane = figure.axes
    assert len(inputs.collections[0].get_offsets()) == np.count_nonzero(seen.inputs)
    assert len(hidden.collections[0].get_offsets()) == len(seen.sent)
    np.testing.assert_array_equal(membrane.lines[0].get_ydata(), seen.membrane)
    plt.close(figure)


def test_without_a_recording_the_picture_says_how_to_make_one(tmp_path, capsys):
    assert main(["run", "deckers_fig8", "--smoke", "--epochs", "1", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["plot", "deckers_raster", "--out", str(tmp_path)]) == 2
    assert "make it with: python -m recipes run deckers_raster" in capsys.readouterr().err
