"""EventProp of linear neurons beside networks that an oracle simulated and differentiated (``eventprop_oracle.py``)."""

import numpy as np
import pytest

from snn_delay_plugins.functional.eventprop_linear import eventprop_linear, eventprop_linear_reference
from tests.functional.eventprop_oracle import FILE, IN_SUITE, errors

FORMS = {"plain": (eventprop_linear_reference, 1.0), "dt 0.1": (eventprop_linear, 0.1), "dt 5": (eventprop_linear, 5.0)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [case[0] for case in IN_SUITE])
def test_spike_times_and_gradients_of_everything_are_those_of_the_oracle(kind, form):
    with np.load(FILE) as file:
        arrays = {name.split("/")[1]: file[name] for name in file if name.startswith(kind + "/")}
    function, dt = FORMS[form]
    in_time, in_gradient = errors(kind, arrays, function, dt=dt)
    assert in_time <= 1e-8
    assert len(in_gradient) >= 6
    assert max(in_gradient.values()) <= 1e-5, in_gradient
