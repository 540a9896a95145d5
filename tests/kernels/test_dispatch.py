"""The registry of forms: what it chooses and says, what the environment turns off; kernels import their own tools alone."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from snn_delay_plugins.delays import WHOLE
from snn_delay_plugins.events import SpikeEvents
from snn_delay_plugins.functional import convolution
from snn_delay_plugins.functional.adlif import adlif
from snn_delay_plugins.functional.dcls import gaussian_delayed_linear
from snn_delay_plugins.functional.delay import delayed_linear
from snn_delay_plugins.functional.eventprop import eventprop_li, eventprop_lif
from snn_delay_plugins.functional.eventprop_linear import eventprop_linear
from snn_delay_plugins.functional.eventprop_models import ADLIF
from snn_delay_plugins.functional.linear import spike_linear
from snn_delay_plugins.functional.linear_neuron import Coefficients, linear_neuron
from snn_delay_plugins.functional.recurrent import Recurrence
from snn_delay_plugins.functional.windows import listed_convolution
from snn_delay_plugins.kernels import dispatch

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "snn_delay_plugins" / "kernels"
X, W = torch.ones(4, 2, 3), torch.ones(2, 3)
ONE = torch.tensor([0])


def events():
    return SpikeEvents.from_lists([[1.0, 4.0], [2.0]], [[0, 1], [1]], num_units=2, duration=30.0)


CALLS = {
    "adlif": lambda: adlif(X, alpha=torch.tensor(0.5)),
    "linear_neuron": lambda: linear_neuron(X, Coefficients(1.0, A=((0.5,),), B=(0.5,))),
    "recurrent_neuron": lambda: linear_neuron(
        X,
        Coefficients(1.0, A=((0.5,),), B=(0.5,)),
        recurrence=Recurrence(weight=torch.ones(3, 3), delay=torch.ones(3, 3), rule=WHOLE, max_delay=1),
    ),
    "delayed_linear": lambda: delayed_linear(X, W, W, max_delay=2),
    "spike_linear": lambda: spike_linear(X, W),
    "sparse_taps": lambda: listed_convolution(X, torch.ones(1, 2), ONE, ONE, ONE, 1),
    "eventprop_lif": lambda: eventprop_lif(events(), 8 * torch.ones(1, 2)),
    "eventprop_li": lambda: eventprop_li(events(), torch.ones(1, 2)),
    "eventprop_linear": lambda: eventprop_linear(events(), 8 * torch.ones(1, 2), model=ADLIF),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_function_tells_what_ran_and_torch_in_the_environment_is_the_plain_form_of_all(name, monkeypatch):
    CALLS[name]()
    form = dispatch.chosen()[name].form
    assert form != "torch" and form == dispatch.OPERATORS[name].forms["cpu"]
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "torch")
    CALLS[name]()
    assert dispatch.chosen()[name].form == "torch"


def test_why_the_plain_form_ran_is_told():
    spike_linear(X, W.double().float(), torch.ones(2).double().float())
    assert dispatch.chosen()["spike_linear"].why is None
    adlif(X.bfloat16(), alpha=torch.tensor(0.5, dtype=torch.bfloat16))
    choice = dispatch.chosen()["adlif"]
    assert choice.form == "torch" and choice.shape == (4, 2, 3) and "float32 or float64, not torch.bfloat16" in choice.why


def test_an_operator_that_is_registered_has_a_call_here_or_is_a_layer_s_step():
    assert dispatch.OPERATORS.keys() - CALLS.keys() == {
        "sparse_delayed_linear", "delay_line", "eventprop_linear_li",
    }  # fmt: skip


@pytest.mark.parametrize("spike_times", ["exact", "grid"])
def test_the_plain_form_of_eventprop_has_the_spikes_and_gradients_of_the_kernel(spike_times, monkeypatch):
    found = []
    for method in ("", "torch"):
        monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", method)
        weight = torch.tensor([[9.0, 7.0], [5.0, 12.0]], dtype=torch.float64, requires_grad=True)
        delay = torch.tensor([[1.0, 2.0], [3.0, 0.5]], dtype=torch.float64, requires_grad=True)
        spikes = eventprop_lif(events().to(torch.float64), weight, delay, spike_times=spike_times)
        voltage = eventprop_li(spikes, weight, spike_times=spike_times)
        loss = (voltage * torch.arange(2)).sum() + (spikes.times.sum() if spike_times == "exact" else 0)
        found.append((spikes.times, spikes.units, voltage, *torch.autograd.grad(loss, [weight, delay])))
    assert found[0][0].numel() > 3
    for compiled, plain in zip(*found, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-6, atol=1e-8)


def test_direct_in_the_environment_is_a_direct_convolution_of_gaussians_too(monkeypatch):
    spikes, weight, delay = torch.rand(20, 2, 3), torch.rand(2, 3), torch.rand(2, 3) * 9
    expected = gaussian_delayed_linear(spikes, weight, delay, sigma=1.0, max_delay=9)

    def never(*_):
        raise AssertionError("products per frequency")

    monkeypatch.setattr(convolution, "_spectral_convolution", never)
    with pytest.raises(AssertionError, match="per frequency"):
        gaussian_delayed_linear(spikes, weight, delay, sigma=1.0, max_delay=9)
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", "direct")
    torch.testing.assert_close(
        gaussian_delayed_linear(spikes, weight, delay, sigma=1.0, max_delay=9), expected, rtol=1e-4, atol=1e-5
    )


def modules(of: str) -> list[str]:
    """Kernel modules of one tool: files and folders of its name, and whatever is in these."""
    files = [f for f in KERNELS.rglob("*.py") if of in [p.removesuffix(".py") for p in f.relative_to(KERNELS).parts]]
    return [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in sorted(files)]


@pytest.mark.parametrize(("of", "without"), [("triton", "numba"), ("numba", "triton")])
def test_the_kernels_of_one_device_import_where_the_other_s_tool_is_not(of, without):
    if not find_spec(of):
        pytest.skip(f"{of} is not installed")
    names = modules(of)
    assert len(names) >= 3
    # torch looks for Triton by itself: what is hidden is hidden after it
    code = (
        f"import torch, sys, importlib\nfor name in [m for m in sys.modules if m.split('.')[0] == {without!r}]:\n"
        f"    del sys.modules[name]\nsys.modules[{without!r}] = None\n"
        f"for name in {names}: importlib.import_module(name)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize(
    "call", ["eventprop_lif(events, 8 * torch.ones(1, 1))", "eventprop_linear(events, 8 * torch.ones(1, 1), model=ADLIF)"]
)
def test_without_numba_events_run_in_the_plain_form_with_a_warning(call):
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import importlib.util, warnings; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'numba' else find(name, *a)\n"
        "import torch; from snn_delay_plugins.events import SpikeEvents\n"
        "from snn_delay_plugins.functional.eventprop import eventprop_lif\n"
        "from snn_delay_plugins.functional.eventprop_linear import eventprop_linear\n"
        "from snn_delay_plugins.functional.eventprop_models import ADLIF\n"
        "events = SpikeEvents.from_lists([[1.0]], [[0]], num_units=1, duration=30.0)\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    spikes = {call}\n"
        "print(spikes.times.numel() > 0, [str(w.message) for w in told])"
    )
    environment = {**os.environ, "SNN_DELAY_PLUGINS_METHOD": ""}
    run = subprocess.run(
        [sys.executable, "-c", code.replace("{call}", call)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.startswith("True") and "numba is not installed" in run.stdout
