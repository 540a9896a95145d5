"""State dicts of frozen layers with delays: what does not fit is refused, and the layer stays as it was."""

import importlib

import pytest
import torch


@pytest.fixture(params=["snntorch", "spikingjelly"])
def frozen(request):
    pytest.importorskip(request.param)
    door = importlib.import_module(f"snn_delay_plugins.{request.param}")
    torch.manual_seed(0)
    whole_sequences = {"step_mode": False} if request.param == "snntorch" else {"step_mode": "m"}
    return door.DelayedLinear(5, 4, max_delay=6, delay="uniform", **whole_sequences).discretize()


def changed(layer, name, place, value):
    state = {key: entry.clone() for key, entry in layer.state_dict().items()}
    state[name][place] = value
    return state


def run(layer, spikes):
    if hasattr(layer, "reset"):
        layer.reset()
    return layer(spikes)


def unchanged(layer, before, spikes, current):
    return all(torch.equal(value, before[name]) for name, value in layer.state_dict().items()) and torch.equal(
        run(layer, spikes), current
    )


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(("name", "place", "value", "message"), [
    ("targets", 3, 4, r"targets\[3\] = 4 is outside \[0, out_features = 4\)"),
    ("targets", 3, -1, r"targets\[3\] = -1 is outside"),
    ("delays", 0, 7, r"delays\[0\] = 7 is outside \[0, max_delay \+ 1 = 7\)"),
    ("delays", 0, -(10**8), r"delays\[0\] = -100000000 is outside"),
    ("starts", 0, 1, "starts must rise from 0 to the number of synapses, 20, but run from 1 to 20"),
    ("starts", 2, 10**8, r"starts\[3\] = 12 comes after 100000000"),
    ("starts", 5, 2**62, "starts must rise from 0"),
])  # fmt: skip
def test_a_state_dict_with_synapses_that_do_not_fit_is_refused_and_changes_nothing(
    frozen, name, place, value, message, assign
):
    spikes = torch.ones(9, 2, 5)
    before, current = {k: v.clone() for k, v in frozen.state_dict().items()}, run(frozen, spikes)
    state = changed(frozen, name, place, value)
    state["weights"] += 1
    with pytest.raises(RuntimeError, match=rf"DiscreteDelayedLinear keeps the synapses that it had: .*{message}"):
        frozen.load_state_dict(state, assign=assign)
    assert unchanged(frozen, before, spikes, current)


def test_the_layer_inside_a_network_is_named_and_parts_alone_are_checked_with_the_rest(frozen):
    net = torch.nn.Sequential(torch.nn.Identity(), frozen)
    with pytest.raises(RuntimeError, match=r"DiscreteDelayedLinear '1' keeps .*targets\[0\] = 9"):
        net.load_state_dict({"1.targets": torch.full((20,), 9, dtype=torch.int32)}, strict=False)
    with pytest.raises(RuntimeError, match="starts must rise"):
        net.load_state_dict({"1.starts": torch.tensor([0, 4, 8, 12, 16, 21])}, strict=False)
    weights = torch.arange(20.0)
    net.load_state_dict({"1.weights": weights}, strict=False)
    assert torch.equal(frozen.weights, weights)


def test_parts_of_another_number_or_kind_are_refused_together(frozen):
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    spikes, current = torch.ones(9, 2, 5), frozen(torch.ones(9, 2, 5))
    fewer = {
        **before,
        "starts": torch.zeros(6, dtype=torch.int64),
        **{name: before[name][:0] for name in ("targets", "delays", "weights")},
    }
    for state, assign, message in (
        (fewer, False, r"targets has shape \(0,\) but the layer needs \(20,\)"),
        ({**before, "delays": before["delays"] + 0.5}, False, r"delays must be torch.int32, got torch.float32"),
        ({**before, "delays": before["delays"].long()}, True, r"delays must be torch.int32, got torch.int64"),
        ({**before, "weights": before["weights"].to(torch.complex64)}, False, "weights must be torch.float32"),
        ({**before, "targets": [0, 1]}, False, "targets must be a tensor, got list"),
        ({**before, "bias": torch.zeros(3)}, False, r"bias has shape \(3,\)"),
    ):
        with pytest.raises(RuntimeError, match=message):
            frozen.load_state_dict(state, assign=assign)
        assert unchanged(frozen, before, spikes, current)
    frozen.load_state_dict({**before, "delays": before["delays"].long()})  # whole numbers are copied
    assert unchanged(frozen, before, spikes, current)


@pytest.mark.parametrize(("name", "value"), [("targets", 10**8), ("delays", -(10**8)), ("starts", 10**8), ("delays", 7)])
def test_buffers_that_were_changed_in_place_are_refused_by_the_next_call(frozen, name, value):
    getattr(frozen, name)[-1] = value
    with pytest.raises(ValueError, match=name):
        frozen(torch.ones(9, 2, 5))
    with pytest.raises(ValueError, match=name):
        frozen.step_currents(torch.ones(2, 5), None)


def test_a_state_dict_goes_round_and_empty_inputs_stay_empty(frozen):
    frozen.load_state_dict(frozen.state_dict())
    frozen.load_state_dict({k: v.clone() for k, v in frozen.state_dict().items()}, assign=True)
    for steps, batch in ((0, 2), (3, 0)):
        assert run(frozen, torch.ones(steps, batch, 5)).shape == (steps, batch, 4)
