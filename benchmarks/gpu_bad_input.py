"""Bad input on a device: each is refused with an error that says what does not fit, and the device goes on computing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_linear_readout import eventprop_linear_li
from snn_delay_plugins.functional.eventprop_models import ADAPTIVE_LI, ADLIF
from snn_delay_plugins.functional.sparse_delay import SynapseList, sparse_delayed_linear
from snn_delay_plugins.functional.windows import listed_convolution
from snn_delay_plugins.kernels.delayed_linear.operator import delayed_linear
from snn_delay_plugins.kernels.device import interpreted

Attempts = dict[str, tuple[type[Exception] | tuple[type[Exception], ...], str, Callable[[], object]]]


def attempts(device: str) -> Attempts:
    """By what is wrong: the error, what it says, and the call."""
    nan = float("nan")

    def events(**changed) -> SpikeEvents:
        good = {"times": torch.tensor([1.0, 2.0], device=device), "units": torch.tensor([0, 1], device=device)}
        good |= {"offsets": torch.tensor([0, 2], device=device), "num_units": 2, "duration": 5.0}
        made = SpikeEvents(**good)
        for name, (place, value) in changed.items():  # after SpikeEvents has looked: as an optimizer or a user would
            getattr(made, name).data[place] = value
        return made

    weight = torch.ones(3, 2, device=device)
    trains, one = torch.ones(4, 1, 2, device=device), torch.tensor([0], device=device)
    lags = torch.zeros(3, 2, dtype=torch.int64, device=device)

    def weights(place, value):
        changed = weight.clone()
        changed[place] = value
        return changed

    short = {"starts": [0, 1, 2], "targets": [0, 7], "delays": [0, 1]}
    synapses = SynapseList(
        *(torch.tensor(short[k], dtype=torch.int64 if k == "starts" else torch.int32, device=device) for k in short),
        torch.ones(2, device=device),
    )
    return {
        "a weight that is NaN": (ValueError, "not finite", lambda: eventprop_lif(events(), weights((0, 1), nan))),
        "a weight that is NaN, readout": (ValueError, "not finite", lambda: eventprop_li(events(), weights((0, 1), nan))),
        "a negative delay": (ValueError, "negative", lambda: eventprop_lif(events(), weight, weights((0, 1), -1.0))),
        "a time that is NaN": (ValueError, "not within", lambda: eventprop_lif(events(times=(0, nan)), weight)),
        "a unit out of range": (ValueError, "outside", lambda: eventprop_lif(events(units=(1, 2**40)), weight)),
        "a negative unit": (ValueError, "outside", lambda: eventprop_li(events(units=(1, -1)), weight)),
        "a weight that is NaN, any linear neuron": (
            ValueError, "not finite", lambda: eventprop_linear(events(), weights((0, 1), nan), model=ADLIF),
        ),
        "a unit out of range, any linear readout": (
            ValueError, "outside", lambda: eventprop_linear_li(events(units=(1, 7)), weight, model=ADAPTIVE_LI),
        ),
        "a time constant that is NaN": (
            ValueError, "tau_mem", lambda: eventprop_lif(events(), weight, tau_mem=torch.tensor(nan, device=device)),
        ),
        "offsets that fall": (ValueError, "offsets", lambda: eventprop_lif(events(offsets=(0, 3)), weight)),
        "a receiver that is not there": (
            ValueError, "targets", lambda: sparse_delayed_linear(trains, synapses, 3, max_delay=2),
        ),
        "a sender that is not there": (
            ValueError, "senders", lambda: listed_convolution(trains, one[None].float(), one, one + 9, one, 1),
        ),
        "a lag that is negative": (
            ValueError, "lag", lambda: listed_convolution(trains, torch.ones(1, 1, device=device), one - 3, one, one, 1),
        ),
        "taps of another dtype": (
            TypeError, "taps",
            lambda: delayed_linear(trains, torch.ones(2, 3, 2, device=device).double(), lags, None, 0, 4, "triton"),
        ),
        "coefficients of another size": (
            ValueError, "", lambda: adlif(torch.ones(3, 2, 4, device=device), alpha=torch.ones(5, device=device)),
        ),
        "more memory than there is": (
            (ValueError, torch.OutOfMemoryError), "", lambda: eventprop_li(events(), weight, dt=1e-9),
        ),
    } | ({"weights on another device": (ValueError, "cpu", lambda: eventprop_lif(events(), weight.cpu()))}
         if device == "cuda" else {})  # fmt: skip


def tried(device: str) -> Iterator[dict]:
    """One row an attempt: whether the right error was raised, and its text.

    :param device: ``"cuda"``, or ``"interpreter"``.
    """
    with contextlib.nullcontext() if device == "cuda" else interpreted():
        for what, (error, words, call) in attempts("cuda" if device == "cuda" else "cpu").items():
            try:
                call()
                refused, said = False, "nothing was raised"
            except Exception as raised:
                refused, said = isinstance(raised, error) and words in str(raised), f"{type(raised).__name__}: {raised}"
            yield {"bad input": what, "refused": refused, "said": said[:200]}
