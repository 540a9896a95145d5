"""Every delay rule in every form that applies its windows, against the plain sum over all lags: values and gradients."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import snn_delay_plugins
from snn_delay_plugins.delays import DCLS_MAX, LINEAR, RULES, DelayRule, Window, rule_of, scatter_window
from snn_delay_plugins.delays.quantised import quantised_delays
from snn_delay_plugins.functional import convolution
from snn_delay_plugins.functional.window_convolution import windowed_convolution
from snn_delay_plugins.functional.windows import listed_convolution, windowed_linear, windowed_linear_step
from snn_delay_plugins.kernels import dispatch

STEPS, SAMPLES, INPUTS, OUT, MAX_DELAY = 14, 3, 4, 5, 6
NAMED = {f"slayer-{name}": rule for name, rule in LINEAR.interpolations.items()} | {"dcls_max": DCLS_MAX} | RULES
NAMED["quantised-2"] = quantised_delays(bits=2)
EVERY_RULE = pytest.mark.parametrize("rule", NAMED.values(), ids=NAMED.keys())
FRAMEWORKS = [name for name in ("snntorch", "spikingjelly") if find_spec(name)]


def problem(rule: DelayRule, shape: tuple[int, ...], channels: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Leaves: spikes, weight, delays (whole ones and both ends among them), bias and the parameters of the rule."""
    delay = torch.rand(shape, dtype=torch.double) * MAX_DELAY
    delay.view(-1)[:3] = torch.tensor([0.0, MAX_DELAY, 2.0], dtype=torch.double)
    leaves = {
        "spikes": (torch.rand(STEPS, SAMPLES, *channels) < 0.3).double() * torch.rand(1).double(),
        "weight": torch.randn(shape, dtype=torch.double),
        "delay": delay,
        "bias": torch.randn(shape[0], dtype=torch.double),
    }
    for name, parameter in rule.parameters.items():
        leaves[name] = torch.rand(shape, dtype=torch.double) + max(parameter.low, 0.0) + 0.1
    return {name: leaf.requires_grad_() for name, leaf in leaves.items()}


def options(rule: DelayRule, leaves: dict) -> dict:
    return {"rule": rule, "max_delay": MAX_DELAY, "parameters": {name: leaves[name] for name in rule.parameters}}


def plain(rule: DelayRule, leaves: dict, padding: int = 0) -> torch.Tensor:
    """I[t] = sum over tau of the kernel's tap tau, applied to the spikes of tau steps ago."""
    kernel = rule.over_lags(leaves["weight"], leaves["delay"], MAX_DELAY, options(rule, leaves)["parameters"])
    spikes, apply = leaves["spikes"], (F.linear, F.conv1d, F.conv2d)[leaves["weight"].dim() - 2]
    current = 0
    for lag, taps in enumerate(kernel[: STEPS + padding]):
        late = torch.cat([torch.zeros_like(spikes[:1]).expand(lag, *spikes.shape[1:]), spikes])
        late = torch.cat([late, torch.zeros_like(late[:1]).expand(padding, *late.shape[1:])])[: STEPS + padding]
        current = current + apply(late.flatten(0, 1), taps).unflatten(0, late.shape[:2])
    return current + leaves["bias"].view(-1, *[1] * (current.dim() - 3))


def equal(actual: torch.Tensor, expected: torch.Tensor, leaves: dict) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(expected)
    gradients = [torch.autograd.grad(x, list(leaves.values()), cotangent, allow_unused=True) for x in (actual, expected)]
    for name, fast, slow in zip(leaves, *gradients, strict=True):
        assert slow.any(), name
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@EVERY_RULE
def test_a_window_is_its_kernel_over_all_lags_and_stays_within_what_a_layer_remembers(rule):
    leaves = problem(rule, (OUT, INPUTS), (INPUTS,))
    window = rule.window(leaves["weight"], leaves["delay"], MAX_DELAY, **options(rule, leaves)["parameters"])
    assert window.lags.dtype == torch.int64 and window.lags.min() >= 0 and window.lags.max() <= MAX_DELAY
    assert int(window.lags.max()) + window.taps.shape[0] <= MAX_DELAY + 2
    assert rule.width in (None, window.taps.shape[0])
    kernel = rule.over_lags(leaves["weight"], leaves["delay"], MAX_DELAY, options(rule, leaves)["parameters"])
    torch.testing.assert_close(scatter_window(window, MAX_DELAY + 2)[: len(kernel)], kernel, rtol=1e-12, atol=1e-12)


STRAIGHT_THROUGH = ("slayer-round", "slayer-floor", "quantised", "quantised-2")


@pytest.mark.parametrize(
    "rule", [rule for name, rule in NAMED.items() if name not in STRAIGHT_THROUGH], ids=lambda r: r.name
)
def test_gradients_are_those_of_finite_differences(rule):
    leaves = problem(rule, (OUT, INPUTS), (INPUTS,))
    leaves["delay"].data = leaves["delay"].data.floor().clamp(max=MAX_DELAY - 1) + 0.1 + 0.8 * torch.rand(OUT, INPUTS)
    arguments = leaves["weight"], leaves["delay"], *(leaves[name] for name in rule.parameters)

    def kernel(weight, delay, *values):
        return rule.over_lags(weight, delay, MAX_DELAY, dict(zip(rule.parameters, values, strict=True)))

    assert torch.autograd.gradcheck(kernel, arguments)


@EVERY_RULE
@pytest.mark.parametrize("form", ["direct", "fft", "torch", "events", "shifted", None])
def test_sequences_in_every_form(rule, form):
    leaves = problem(rule, (OUT, INPUTS), (INPUTS,))
    call = dict(zip(("spikes", "weight", "delay", "bias"), leaves.values(), strict=False), **options(rule, leaves))
    if form in ("events", "shifted"):
        pytest.importorskip("numba")
    equal(windowed_linear(**call, method=form, padding=3), plain(rule, leaves, padding=3), leaves)


@EVERY_RULE
@pytest.mark.parametrize("wanted", ["direct", "fft"])
def test_the_environment_says_how_windows_are_convolved(rule, wanted, monkeypatch):
    spectral, taken = convolution._spectral_convolution, []
    monkeypatch.setattr(convolution, "_spectral_convolution", lambda *a: taken.append("fft") or spectral(*a))
    monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", wanted)
    leaves = problem(rule, (OUT, INPUTS), (INPUTS,))
    windowed_linear(leaves["spikes"], leaves["weight"], leaves["delay"], **options(rule, leaves))
    assert taken == ["fft"] * (wanted == "fft")


@EVERY_RULE
def test_a_sequence_after_its_history_is_the_end_of_the_whole(rule):
    leaves = problem(rule, (OUT, INPUTS), (INPUTS,))
    past, rest = leaves["spikes"][:8], leaves["spikes"][8:]
    synapse = leaves["weight"], leaves["delay"], leaves["bias"]
    current = windowed_linear(rest, *synapse, history=past.flip(0), **options(rule, leaves))
    equal(current, plain(rule, leaves)[8:], leaves)


@EVERY_RULE
def test_single_steps(rule):
    leaves, history, currents = problem(rule, (OUT, INPUTS), (INPUTS,)), None, []
    for spikes in leaves["spikes"]:
        synapse = leaves["weight"], leaves["delay"], leaves["bias"]
        current, history = windowed_linear_step(spikes, history, *synapse, **options(rule, leaves))
        currents.append(current)
    equal(torch.stack(currents), plain(rule, leaves), leaves)


@EVERY_RULE
@pytest.mark.parametrize("method", ["torch", "numba"])
def test_a_list_of_the_synapses_that_exist(rule, method):
    pytest.importorskip("numba" if method == "numba" else "torch")
    leaves = problem(rule, (OUT, INPUTS), (INPUTS,))
    exists = torch.rand(OUT, INPUTS) < 0.6
    receivers, senders = exists.nonzero(as_tuple=True)
    chosen = {name: leaves[name][exists] for name in ("weight", "delay", *rule.parameters)}
    taps, lags = rule.window(chosen.pop("weight"), chosen.pop("delay"), MAX_DELAY, **chosen)
    current = listed_convolution(leaves["spikes"], taps.mT, lags, senders, receivers, OUT, method=method)
    masked = leaves | {"weight": leaves["weight"] * exists}
    equal(current + leaves["bias"], plain(rule, masked), leaves)


@EVERY_RULE
@pytest.mark.parametrize(("places", "space"), [((2,), (5,)), ((2, 3), (4, 5))], ids=["conv1d", "conv2d"])
def test_convolutions_over_space(rule, places, space):
    leaves = problem(rule, (OUT, INPUTS, *places), (INPUTS, *space))
    synapse = leaves["weight"], leaves["delay"], leaves["bias"]
    current = windowed_convolution(leaves["spikes"], *synapse, **options(rule, leaves), time_padding=2)
    equal(current, plain(rule, leaves, padding=2), leaves)


def test_the_triangle_is_that_of_the_paper_and_narrows_to_linear_interpolation():
    weight, delay = torch.tensor([2.0], dtype=torch.double), torch.tensor([3.25], dtype=torch.double)
    taps = RULES["triangle"].over_lags(weight, delay, MAX_DELAY, {"sigma": torch.tensor(1.0)}).flatten()
    heights = [0.0, 0.0, 0.75, 1.75, 1.25, 0.25, 0.0, 0.0]  # 2 - |tau - 3.25|
    torch.testing.assert_close(taps, torch.tensor(heights, dtype=torch.double) * 2 / 2**2)
    narrow = RULES["triangle"].over_lags(weight, delay, MAX_DELAY, {"sigma": torch.tensor(0.0)}).flatten()
    assert narrow.tolist() == [0, 0, 0, 1.5, 0.5, 0, 0, 0]


@pytest.mark.parametrize(
    ("bits", "max_delay", "step", "longest"), [(1, 6, 6, 6), (2, 6, 2, 6), (2, 7, 3, 6), (3, 6, 1, 6), (5, 0, 1, 0)]
)
def test_quantised_delays_are_so_many_multiples_of_whole_steps(bits, max_delay, step, longest):
    delay = torch.linspace(0, max_delay, 301)
    whole = quantised_delays(bits).whole(delay, max_delay)
    assert whole.unique().tolist() == list(range(0, longest + 1, step)) and len(whole.unique()) <= 2**bits
    assert torch.equal(whole, (whole / step).round() * step) and bool((whole.diff() >= 0).all())
    inside = delay <= longest
    assert (whole - delay)[inside].abs().max() <= step / 2


@pytest.mark.parametrize("bits", [0, 2.5, 25, True])
def test_another_number_of_bits_is_refused(bits):
    with pytest.raises((ValueError, TypeError), match="bits must be a whole number"):
        quantised_delays(bits)


def test_the_gradient_of_quantised_delays_is_that_at_the_quantised_ones():
    rule = quantised_delays(bits=2)
    leaves = problem(rule, (OUT, INPUTS), (INPUTS,))
    whole = rule.whole(leaves["delay"].detach(), MAX_DELAY)
    assert not torch.equal(whole, leaves["delay"])
    there = leaves | {"delay": whole.requires_grad_()}
    results = [plain(rule, leaves), plain(LINEAR, there)]
    assert torch.equal(*results)
    cotangent = torch.randn_like(results[0])
    through = torch.autograd.grad(results[0], list(leaves.values()), cotangent)
    at = torch.autograd.grad(results[1], list(there.values()), cotangent)
    assert all(map(torch.equal, through, at)) and through[2].any()


# ------------------------------------------------------------------------------------------------- layers


def layer_of(framework: str, kind: str, rule: DelayRule, **more) -> torch.nn.Module:
    package = __import__(f"snn_delay_plugins.{framework}", fromlist=[kind])
    sizes = (INPUTS, OUT) if kind == "DelayedLinear" else (INPUTS, OUT, 2)
    if rule.interpolations:
        name = next(name for name, variant in rule.interpolations.items() if variant is rule)
        more["kernel" if framework == "snntorch" else "interpolation"] = name
    if "sigma" in rule.parameters:
        more |= {"sigma": 1.5, "learn_sigma": True, "sigma_type": "synaptic"}
    mode = False if framework == "snntorch" else "m"
    return getattr(package, kind)(
        *sizes, max_delay=MAX_DELAY, delay="uniform", delay_gradient=rule, step_mode=mode, **more
    ).double()  # fmt: skip


def in_steps(layer: torch.nn.Module, spikes: torch.Tensor) -> torch.Tensor:
    layer.step_mode = True if isinstance(layer.step_mode, bool) else "s"
    return torch.stack([layer(x) for x in spikes])


LAYERS = {
    "DelayedLinear": (INPUTS,), "DelayedConv1d": (INPUTS, 5), "DelayedConv2d": (INPUTS, 4, 5)
}  # fmt: skip


@EVERY_RULE
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("line", ["listed", "dense", None])
def test_layers_of_both_frameworks_in_sequences_and_steps(rule, framework, kind, training, line, monkeypatch):
    if line == "listed":
        pytest.importorskip("numba")
    monkeypatch.setattr(dispatch, "delay_line", lambda spikes: line)
    layer = layer_of(framework, kind, rule).train(training)
    spikes = (torch.rand(STEPS, SAMPLES, *LAYERS[kind]) < 0.3).double().requires_grad_()
    leaves = {"spikes": spikes, **dict(layer.named_parameters())}
    used = rule if training else rule.in_evaluation()
    expected = plain(used, leaves)
    if not training:
        leaves = {name: leaf for name, leaf in leaves.items() if name not in rule.parameters}
    equal(layer(spikes), expected, leaves)
    if hasattr(layer, "reset"):
        layer.reset()
    equal(in_steps(layer, spikes), plain(used, leaves | dict(layer.named_parameters())), leaves)


@EVERY_RULE
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.filterwarnings("ignore:discretize")
def test_a_discretized_layer_has_one_tap_at_the_whole_delays_of_its_rule(rule, framework, kind):
    layer = layer_of(framework, kind, rule).eval()
    with torch.no_grad():
        layer.delay.copy_(rule.whole(layer.delay, MAX_DELAY))
    spikes = (torch.rand(STEPS, SAMPLES, *LAYERS[kind]) < 0.3).double()
    frozen = layer.discretize()
    torch.testing.assert_close(frozen(spikes), layer(spikes).detach(), rtol=1e-12, atol=1e-12)
    assert not any(value.requires_grad for value in frozen.parameters())


@EVERY_RULE
def test_a_rule_says_its_equation_and_its_source(rule):
    assert rule.equation and rule.source and rule.name


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_layers_take_rules_by_name(rule):
    assert rule_of(rule.name) is rule


@pytest.mark.parametrize("other", ["no rule", None, "round"])
def test_an_unknown_rule_is_refused_with_those_there_are(other):
    with pytest.raises(ValueError, match=rf"{', '.join(map(repr, RULES))}\) or a DelayRule, got {other!r}"):
        rule_of(other)


def test_what_applies_windows_names_no_rule():
    package = Path(snn_delay_plugins.__file__).parent
    modules = [*package.glob("delayed*.py"), *(package / "functional").glob("window*.py")]
    modules += [package / "functional" / "inputs.py", *(package / "kernels").glob("*/*.py")]
    assert len(modules) > 20
    for module in modules:
        text = module.read_text(encoding="utf-8").lower()
        assert not [name for name in NAMED if name in text], module


# --------------------------------------------------------------------------------------------- a rule of one's own

PAGE = Path(__file__).resolve().parents[1] / "docs" / "delays.md"


@pytest.fixture
def own_rule() -> DelayRule:
    """The rule that the page of the docs defines."""
    pytest.importorskip("snntorch")
    block = re.search(r"## Your own delay rule\n.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(
        1
    )
    names: dict = {}
    exec(compile(block, "docs/delays.md", "exec"), names)
    assert names["layer"](torch.ones(2, 700)).shape == (2, 128)
    return names["cosine"]


def test_the_rule_of_the_docs_runs_in_every_form(own_rule, monkeypatch):
    test_a_window_is_its_kernel_over_all_lags_and_stays_within_what_a_layer_remembers(own_rule)
    test_single_steps(own_rule)
    for form in ("direct", "fft", "events", None):
        test_sequences_in_every_form(own_rule, form)
    test_a_list_of_the_synapses_that_exist(own_rule, "torch")
    test_convolutions_over_space(own_rule, (2, 3), (4, 5))
    for framework in FRAMEWORKS:
        for kind in LAYERS:
            test_layers_of_both_frameworks_in_sequences_and_steps(own_rule, framework, kind, True, "dense", monkeypatch)
            test_a_discretized_layer_has_one_tap_at_the_whole_delays_of_its_rule(own_rule, framework, kind)


def test_the_rule_of_the_docs_has_taps_that_sum_up_to_the_weight_and_the_gradient_of_finite_differences(own_rule):
    leaves = problem(own_rule, (OUT, INPUTS), (INPUTS,))
    leaves["delay"].data.clamp_(1.1, MAX_DELAY - 1.1)
    taps = own_rule.window(leaves["weight"], leaves["delay"], MAX_DELAY).taps
    torch.testing.assert_close(taps.sum(0), leaves["weight"])
    test_gradients_are_those_of_finite_differences(own_rule)


def test_the_lines_of_the_docs_for_deployment_run(capsys):
    pytest.importorskip("snntorch")
    page = PAGE.read_text(encoding="utf-8").partition("## Deployment in few bits")[2]
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1), names)
    levels = names["levels"]
    assert torch.equal(levels * names["frozen"].weight_scale, names["frozen"].weights) and levels.abs().max() == 7
    assert re.fullmatch(r"weights changed by \d\.\d %\n|weights changed by 1\d\.\d %\n", capsys.readouterr().out)


def test_the_docs_list_every_rule():
    table = re.findall(r'^\| `"(\w+)"`', PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(table) == set(RULES)


@pytest.mark.parametrize(
    ("window", "error", "message"),
    [
        (lambda w, d, longest: w[None], TypeError, r"must return a Window\(taps, lags\), got Tensor"),
        (
            lambda w, d, longest: Window(w[None], d.round()),
            TypeError,
            r"lags must be int64, got torch.float32; convert them",
        ),
        (lambda w, d, longest: Window(w, d.long()), ValueError, r"must return taps \[width, \*weight.shape\].*got \(3,\)"),
        (lambda w, d, longest: Window(w[None], d.long() - 1), ValueError, r"at lags -1 to 3: with max_delay=4 .*\[0, 5\]"),
        (lambda w, d, longest: Window(w.expand(3, 3), d.long()), ValueError, r"taps at lags 0 to 6: with max_delay=4"),
    ],
)
def test_windows_that_are_none_are_refused_when_a_layer_is_made(window, error, message):
    layer = pytest.importorskip("snn_delay_plugins.snntorch").DelayedLinear
    with pytest.raises(error, match=rf"window of rule 'mine'.*{message}"):
        layer(3, 2, max_delay=4, delay_gradient=DelayRule(name="mine", window=window))


def test_fields_of_a_rule_that_are_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="evaluated of rule 'mine' must be a DelayRule, got 'round'"):
        DelayRule(name="mine", window=RULES["slayer"].window, evaluated="round")
    with pytest.raises(TypeError, match="sigma of rule 'mine' must be a RuleParameter, got 1"):
        DelayRule(name="mine", window=RULES["slayer"].window, parameters={"sigma": 1})
    with pytest.raises(TypeError, match="window of rule 'mine' must be a function"):
        DelayRule(name="mine", window=1)
