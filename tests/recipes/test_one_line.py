"""Who changes one number of a recipe (hidden size, delay cap, neuron) touches one line of it, and everything follows."""

import inspect
import types

import pytest

from recipes import dcls_table2, deckers_table1, deckers_table2, eventprop_braille, eventprop_shd, eventprop_yinyang
from snn_delay_plugins import EventPropLIF
from snn_delay_plugins.spikingjelly import AdLIFPlusNode, DelayedLinear


def changed(module, line, *into):
    """The recipe of the module's source with one line changed into others (one or two)."""
    source = inspect.getsource(module)
    assert source.count(f"{line}\n") == 1, "not one line"
    made = types.ModuleType(f"{module.__name__}_changed")
    made.__package__ = module.__package__
    exec(compile(source.replace(f"{line}\n", "\n".join(into) + "\n"), module.__file__, "exec"), made.__dict__)
    return made.RECIPE


def network(recipe, key, **smaller):
    (row,) = (row for row in recipe.rows if row.key == key)
    return recipe.network(20, 4, **recipe.network_settings | row.settings | smaller)


def layers(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def test_the_hidden_size():
    recipe = changed(
        deckers_table1,
        '    network_settings={"hidden": [128, 128], "dropout": 0.5},',
        '    network_settings={"hidden": [16, 12, 8], "dropout": 0.5},',
    )
    for row in recipe.rows:
        assert [layer.neuron.alpha.numel() for layer in network(recipe, row.key).hidden] == [16, 12, 8]
    assert "hidden [16, 12, 8]" in recipe.paper_used


def test_the_delay_cap():
    recipe = changed(deckers_table1, 'MAX_DELAY = 25  # time steps of 10 ms; "Delay caps" in Table 3', "MAX_DELAY = 40")
    for row in recipe.rows:
        found = layers(network(recipe, row.key, hidden=[6, 5]), DelayedLinear)
        assert {layer.max_delay for layer in found} == ({40} if "delays" in row.key else set())


def test_the_neuron():
    recipe = changed(
        deckers_table1,
        '        {"preset": "lif", "max_delay": MAX_DELAY},',
        '        {"preset": "adlif+", "max_delay": MAX_DELAY},',
    )
    (node, _) = layers(network(recipe, "lif-delays", hidden=[6, 5]), AdLIFPlusNode)
    assert {"alpha", "beta", "a", "b"} <= {name for name, _ in node.named_parameters()}
    recipe = changed(
        deckers_table2,
        '    network_settings={"preset": "adlif+", "hidden": [512, 512], "dropout": 0.25},',
        '    network_settings={"preset": "lif", "hidden": [64, 64], "dropout": 0.25},',
    )
    for key in ("ssc", "gsc"):
        made = network(recipe.parts[key].of, "adlif-plus-delays")
        assert [len(list(node.parameters())) for node in layers(made, AdLIFPlusNode)] == [1, 1]  # alpha alone


def test_of_learned_delays():
    line = '    network_settings={"hidden": [256, 256], "time_constant": 1.005, "max_delay": 24, "dropout": 0.4},'
    recipe = changed(dcls_table2, line, line.replace("24", "9").replace("1.005", "2.0")).parts["shd"]
    made = network(recipe, "hidden-2", hidden=[6, 5])
    assert {layer.max_delay for layer in layers(made, DelayedLinear)} == {9}
    assert made.hidden[0].neuron.tau == 2.0


@pytest.mark.parametrize(
    "module, line, key",
    [
        (eventprop_shd, "    network_settings={", "recurrent-7-delays"),
        (eventprop_braille, "    network_settings={", "feedforward-7-delays"),
    ],
)
def test_of_eventprop(module, line, key):
    """The sizes are one line; the cap and the neuron's constants are those of the network, and one more line here."""
    sizes = "HIDDEN = (64, 128, 256, 512, 1024)"
    assert {row.settings["hidden"] for row in changed(module, sizes, "HIDDEN = (7,)").rows} == {7}
    recipe = changed(module, line, line, '        "max_delay": 80.0, "tau_mem": 7.0,')
    made = network(recipe, key.replace("7", "64"))
    assert {layer.max_delay for layer in layers(made, EventPropLIF)} == {80.0}
    assert made.hidden[0].delay.max() <= 80.0
    assert all(layer.tau_mem == 7.0 for layer in layers(made, EventPropLIF))


def test_of_first_spikes():
    recipe = changed(eventprop_yinyang, "HIDDEN = (5, 10, 15, 20, 25, 30)", "HIDDEN = (9, 30)")
    assert [row.settings["hidden"] for row in recipe.rows[:4]] == [9, 30, 9, 30]
