"""A delay rule of one's own that is wrong: said at once, with its name and what it should be."""

from __future__ import annotations

import warnings

import pytest
import torch

from snn_delay_plugins.delayed import DelayedSynapses
from snn_delay_plugins.delays import LINEAR, TRIANGLE, DelayRule, RuleParameter, Window, check_delays

MAX_DELAY = 5


def rule(change, **fields) -> DelayRule:
    """A right rule of two taps, and what ``change`` makes of its window."""

    def window(weight, delay, max_delay, **_):
        check_delays(delay, max_delay)
        right = Window(torch.stack((weight * (1 + delay), weight)), delay.detach().floor().long())
        return change(weight, delay, right)

    return DelayRule(**{"name": "own", "window": window, "equation": "-", "source": "this test"} | fields)


class Layer(DelayedSynapses):
    _sequence_form = "-"


def layer(rule: DelayRule, **options) -> DelayedSynapses:
    synapses = Layer()
    synapses.create_synapses(4, 3, True, max_delay=MAX_DELAY, delay="uniform", delay_gradient=rule, **options)
    return synapses


WRONG = {
    "nothing": (lambda w, d, r: None, TypeError, "must return a Window(taps, lags), got NoneType"),
    "taps alone": (lambda w, d, r: r.taps, TypeError, "must return a Window(taps, lags), got Tensor"),
    "no taps": (lambda w, d, r: r._replace(taps=r.taps[:0]), ValueError, "at least one"),
    "time last": (lambda w, d, r: r._replace(taps=r.taps.movedim(0, -1)), ValueError, "taps [width, *weight.shape]"),
    "another dtype": (lambda w, d, r: r._replace(taps=r.taps.double()), TypeError, "taps must be torch.float32"),
    "lags of numbers": (lambda w, d, r: r._replace(lags=d.detach()), TypeError, "lags must be int64, got torch.float32"),
    "lags of another shape": (lambda w, d, r: r._replace(lags=torch.zeros(7, 7).long()), ValueError, "lags of the"),
    "negative lags": (lambda w, d, r: r._replace(lags=r.lags - 9), ValueError, "taps at lags -9 to -3"),
    "late lags": (lambda w, d, r: r._replace(lags=r.lags * 0 + 6), ValueError, "taps at lags 6 to 7: with max_delay=5"),
    "NaN": (lambda w, d, r: r._replace(taps=r.taps / 0 * 0), ValueError, "must return finite taps"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_window_is_refused_when_a_layer_is_made(change, error, message):
    with pytest.raises(error) as refusal:
        layer(rule(change))
    assert "of rule 'own'" in str(refusal.value) and message in str(refusal.value)


def test_a_window_that_is_wrong_for_some_delays_alone_is_refused_in_every_form(monkeypatch):
    def late(weight, delay, right):
        return right._replace(lags=right.lags + 9 * (delay.detach() == 4.5).long())

    with torch.no_grad():
        synapses = layer(rule(late))
        synapses.delay.fill_(4.5)
    for method in ("", "torch"):
        monkeypatch.setenv("SNN_DELAY_PLUGINS_METHOD", method)
        for form in (
            lambda: synapses.sequence_currents(torch.ones(6, 2, 4)),
            lambda: synapses.step_currents(torch.ones(2, 4), None),
        ):
            with pytest.raises(ValueError, match="with max_delay=5 they must lie in"):
                form()


@pytest.mark.parametrize(
    ("kernel", "error", "message"),
    [
        (lambda w, d, m: torch.ones(m + 9, *w.shape), ValueError, "1 to max_delay + 2 = 7 taps"),
        (lambda w, d, m: torch.ones(m, 2), ValueError, "must return [taps, *weight.shape]"),
        (lambda w, d, m: None, TypeError, "must return a tensor of torch.float32, as the weight, got NoneType"),
    ],
)
def test_a_wrong_kernel_over_all_lags_is_refused(kernel, error, message):
    with pytest.raises(error) as refusal:
        layer(rule(lambda w, d, right: right, kernel=kernel)).sequence_currents(torch.ones(6, 2, 4))
    assert "kernel of rule 'own'" in str(refusal.value) and message in str(refusal.value)


def test_more_taps_than_the_width_that_a_rule_says_are_refused():
    with pytest.raises(ValueError, match="returned 2 taps, but its width is 1"):
        layer(rule(lambda w, d, right: right, width=1))


@pytest.mark.parametrize(
    "whole",
    [lambda d, m: d, lambda d, m: d * 0 + m + 1, lambda d, m: d * float("nan"), lambda d, m: d[:1].round()],
    ids=["fractions", "too long", "NaN", "another shape"],
)
def test_delays_of_the_discrete_form_that_are_not_whole_or_do_not_fit_are_refused(whole):
    with pytest.raises(ValueError, match="whole of rule 'own' must return whole numbers in"):
        layer(rule(lambda w, d, right: right, whole=whole)).discrete_synapses()


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        (lambda w, d, r: r, False),
        (lambda w, d, r: r._replace(taps=torch.stack((w, w))), True),
        (lambda w, d, r: r._replace(taps=r.taps.detach()), True),
    ],
)
@pytest.mark.parametrize("learn", [True, False])
def test_a_rule_without_a_gradient_of_the_delay_is_said_where_delays_are_learned(change, warned, learn):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        layer(rule(change), learn_delay=learn)
    assert ["'own' gives the delays no gradient" in str(one.message) for one in seen] == [True] * (warned and learn)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"window": None}, TypeError, "window of rule 'own' must be a function"),
        ({"whole": 3}, TypeError, "whole of rule 'own' must be a function"),
        ({"width": 0}, ValueError, "width of rule 'own' must"),
        ({"evaluated": "round"}, TypeError, "evaluated of rule 'own' must be a DelayRule, got 'round'"),
        ({"evaluated": TRIANGLE}, ValueError, "must have no parameters, has sigma"),
        ({"parameters": {"weight": RuleParameter(0, lambda m: m, lambda m: 1)}}, ValueError, "not be called 'weight'"),
    ],
)
def test_a_rule_of_wrong_fields_is_refused(fields, error, message):
    with pytest.raises(error) as refusal:
        rule(lambda w, d, right: right, **fields)
    assert message in str(refusal.value)


@pytest.mark.parametrize("start", [float("nan"), float("inf"), -1.0])
def test_a_parameter_that_starts_outside_of_its_interval_is_refused(start):
    width = RuleParameter(0.0, lambda m: m, lambda m: start)
    with pytest.raises(ValueError, match=r"parameter 'sigma' of rule 'own' must start in \[0, inf\), got"):
        layer(rule(lambda w, d, right: right, parameters={"sigma": width}))


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_the_triangle_has_the_derivative_towards_longer_delays_at_whole_ones(sigma):
    delay = torch.tensor([0.0, 2.0, 5.0], dtype=torch.float64)
    weight = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)

    def kernel(delay):
        return TRIANGLE.over_lags(weight, delay, MAX_DELAY + 1, {"sigma": sigma})

    change = torch.func.jacrev(lambda d: kernel(d).sum(1))(delay)
    step = 2.0**-20
    for k in range(3):
        longer = delay.clone()
        longer[k] += step
        torch.testing.assert_close(change[:, k], (kernel(longer) - kernel(delay)).sum(1) / step, rtol=1e-9, atol=1e-9)
    if sigma == 0:
        linear = torch.func.jacrev(lambda d: LINEAR.over_lags(weight, d, MAX_DELAY + 1, {}).sum(1))(delay)
        torch.testing.assert_close(change, linear)
