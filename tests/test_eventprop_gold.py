"""EventProp against gradients that an independent event-exact simulator made by finite differences."""

import numpy as np
import pytest
import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif

NETWORKS = ("feedforward_weak", "feedforward_strong", "recurrent_weak", "recurrent_strong")


def gold(shared, name, dtype):
    """The fixture's arrays, its inputs as events, and its parameters in our layout [out, in]."""
    arrays = np.load(shared / "fixtures" / "eventprop_gold" / f"{name}.npz")
    names = [k for k in ("W", "D", "Wr", "Dr", "Wo", "Do") if k in arrays]
    parameters = {k: torch.tensor(arrays[k].T.copy(), dtype=dtype, requires_grad=True) for k in names}
    events = SpikeEvents.from_lists(
        [torch.tensor(arrays["input_times"], dtype=dtype)], [arrays["input_units"].tolist()],
        num_units=arrays["W"].shape[0], duration=100.0,
    )  # fmt: skip
    return arrays, events, parameters


@pytest.mark.parametrize("dt", [0.1, 1.0, 5.0])
@pytest.mark.parametrize(
    ("dtype", "in_time", "in_loss", "in_gradient"), [(torch.float64, 1e-9, 1e-9, 1e-5), (torch.float32, 1e-3, 1e-4, 1e-2)]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_spike_times_loss_and_every_gradient_equal_the_exact_ones(shared, name, dtype, in_time, in_loss, in_gradient, dt):
    arrays, events, p = gold(shared, name, dtype)
    hidden = eventprop_lif(events, p["W"], p["D"], dt=dt, recurrent_weight=p.get("Wr"), recurrent_delay=p.get("Dr"))
    integral = eventprop_li(hidden, p["Wo"], p["Do"], dt=dt, readout="integral")
    loss = (torch.tensor(arrays["c"], dtype=dtype) * integral[0]).sum()
    loss.backward()

    assert hidden.units.tolist() == arrays["hidden_units"].tolist()
    assert np.abs(hidden.times.detach().double().numpy() - arrays["hidden_times"]).max() <= in_time
    assert loss.item() == pytest.approx(float(arrays["loss"]), rel=in_loss)
    for name_, parameter in p.items():
        wanted = arrays[f"grad_{name_}"]
        assert np.abs(parameter.grad.double().numpy().T - wanted).max() <= in_gradient * np.abs(wanted).max(), name_
