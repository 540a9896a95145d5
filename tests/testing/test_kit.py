"""The kit finds what it is to find, and nothing where there is nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("snntorch.surrogate", reason="snnTorch is missing: pip install 'snn_delay_plugins[snntorch]'")
pytest.importorskip(
    "spikingjelly.activation_based", reason="SpikingJelly is missing: pip install 'snn_delay_plugins[spikingjelly]'"
)

import snntorch
from spikingjelly.activation_based import layer as sj_layer
from spikingjelly.activation_based import neuron as sj_neuron

from snn_delay_plugins import spikingjelly
from snn_delay_plugins.testing import (
    ConformanceError,
    Plugin,
    UnclearPlugin,
    all_checks,
    check_layer,
    check_neuron,
    check_plugin,
    parametrize_with_checks,
)
from snn_delay_plugins.testing.command_line import main
from snn_delay_plugins.testing.registry import find_check
from snn_delay_plugins.testing.running import perform
from snn_delay_plugins.testing.sending import packed
from snn_delay_plugins.testing.subject import Subject
from snn_delay_plugins.testing.tables import checks_as_markdown

from . import faulty_plugins
from .faulty_plugins import FAULTY, MORE_FAULTY, RIGHT
from .right_plugins import RightNeuron


def test_every_check_has_a_faulty_plug_in():
    assert {check.key for check in all_checks()} == FAULTY.keys()


@pytest.mark.parametrize("key", FAULTY)
def test_a_check_finds_its_faulty_plug_in(key):
    if key == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    faulty, right = FAULTY[key]
    assert (faulty.factory, faulty.reset) != (right.factory, right.reset)
    with pytest.raises(AssertionError):
        perform(find_check(key), Subject(faulty))
    if right not in RIGHT.values():
        perform(find_check(key), Subject(right))


@pytest.mark.parametrize(("key", "faulty"), MORE_FAULTY, ids=[plugin.factory.__name__ for _, plugin in MORE_FAULTY])
def test_a_check_finds_a_fault_that_hides_from_short_and_simple_inputs(key, faulty):
    with pytest.raises(AssertionError):
        perform(find_check(key), Subject(faulty))


@parametrize_with_checks(RIGHT)
def test_the_right_plug_ins_hold_every_check(check):
    check()


def test_every_check_applies_to_a_right_plug_in():
    """A check that is skipped for its right plug-in would prove nothing."""
    never = []
    for key, (_, right) in FAULTY.items():
        check = find_check(key)
        if key not in ("cuda", "compile", "ddp-gradients", "ddp-states") and right in RIGHT.values():
            try:
                perform(check, Subject(right))
            except Exception as error:
                never.append((key, error))
    assert not never


def test_the_documentation_has_every_check_with_what_it_asserts():
    documented = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    assert checks_as_markdown(all_checks()) in documented


def report_of(factory, *keys, **keywords):
    return check_plugin(factory, checks=keys, on_fail="return", **keywords)


def test_a_report_says_what_failed_and_raises_it_on_demand():
    report = report_of(
        faulty_plugins.MixesTheBatch, "batch-equals-samples", "deepcopy", kind="neuron", shape=(5,), form="step"
    )
    assert [result.outcome for result in report.results] == ["failed", "passed"] and not report.ok
    assert "FAILED" in str(report) and "a batch and its samples alone differ in" in str(report)
    with pytest.raises(ConformanceError, match=r"batch-equals-samples +FAILED"):
        check_neuron(faulty_plugins.MixesTheBatch, checks=["batch-equals-samples"], shape=(5,), form="step")


@pytest.mark.parametrize("start", [0.0, 2.0, 4.0], ids=["the lowest", "a whole", "the longest"])
def test_gradients_are_checked_beside_the_bounds_and_kinks_that_a_module_begins_at(start):
    from snn_delay_plugins.spikingjelly import DelayedLinear

    report = report_of(lambda: DelayedLinear(5, 3, max_delay=4, delay=start), "gradients")
    assert report.counts() == {"passed": 1}, str(report)


def test_a_module_that_refuses_another_batch_has_a_state_even_if_no_output_shows_it():
    from snn_delay_plugins.snntorch import DelayedLinear

    assert "states: history" in check_plugin(lambda: DelayedLinear(5, 3, max_delay=4), checks=["causal"]).description


def test_parameters_that_are_clamped_where_they_are_read_may_lie_anywhere():
    from snn_delay_plugins.spikingjelly import DelayedLinear

    layers = [lambda mode=mode: DelayedLinear(5, 3, max_delay=4, bound_mode=mode) for mode in ("clamp", "project")]
    assert [report_of(layer, "bounds").results[0].outcome for layer in layers] == ["skipped", "passed"]


class Unlisted(snntorch.SpikingNeuron):
    """A neuron of a third party, which snnTorch 1.0's ``utils.reset`` does not know."""

    mem = 0.0

    def forward(self, x):
        self.mem = 0.9 * self.mem + x
        return self.spike_grad(self.mem - 1)

    def reset_mem(self):
        self.mem = 0.0


class Listed(snntorch.Leaky):
    """One that it knows, but whose own reset forgets nothing."""

    def reset_mem(self):
        pass


def test_a_neuron_that_the_frameworks_reset_does_not_reach_is_told_what_to_name():
    def message(plugin, **keywords):
        (result,) = check_neuron(plugin, checks=["reset"], on_fail="return", **keywords).results
        return result.message

    assert "list of its own classes, of which Unlisted is none" in message(Unlisted)
    assert "Plugin(..., reset=my_plugin.reset)" in message(Unlisted)
    assert message(Unlisted, reset=lambda net: net[-1].reset_mem()) == ""
    assert message(Unlisted, reset=lambda net: None).endswith("1 and 0")
    assert message(lambda: Listed(beta=0.9)) == ""
    assert "SpikingJelly" not in message(lambda: sj_neuron.IFNode(step_mode="s"))


def test_a_rounding_whose_gradient_goes_straight_through_is_told_how_to_declare_it():
    def layer(rule):
        return lambda: spikingjelly.DelayedLinear(6, 4, max_delay=5, delay="uniform", delay_gradient=rule)

    (result,) = check_layer(layer("quantised"), checks=["gradients"], on_fail="return").results
    assert "a direction of delay differ" in result.message and result.message.endswith(
        "the output does not change along it at all: where that is meant, as where a rounding has its gradient straight "
        "through, declare it with its reason, expected_failures={'gradients': ...}"
    )
    faulty, _ = FAULTY["gradients"]  # whose output changes
    with pytest.raises(AssertionError) as found:
        perform(find_check("gradients"), Subject(faulty))
    assert "straight" not in str(found.value)


@pytest.mark.parametrize(
    "made",
    [
        lambda: nn.Sequential(nn.Linear(5, 3), nn.Dropout()),
        lambda: spikingjelly.AdLIFPlusNode(features=5, init_state="uniform"),
    ],
    ids=["dropout", "initial states"],
)
def test_a_module_that_draws_random_numbers_is_told_to_be_checked_in_evaluation(made):
    (result,) = check_plugin(made, checks=["batch-equals-samples"], on_fail="return").results
    assert "a batch and its samples alone differ" in result.message
    assert "(another seed gives another output: where random numbers are meant, as of dropout" in result.message
    assert check_plugin(lambda: made().eval(), checks=["batch-equals-samples", "evaluation"]).ok


def test_neurons_that_are_made_of_models_need_no_register_and_say_nothing(recwarn):
    own = pytest.importorskip("tests.own_neuron")
    keys = ["reset", "reset-depth", "reset-graph", "batch-size"]
    report = check_neuron(lambda: own.TwoCompartment(features=5), checks=keys, on_fail="return")
    assert report.counts() == {"passed": 4}, report
    assert not recwarn.list


def test_an_expected_failure_keeps_its_reason_and_one_that_passes_is_a_failure():
    expected = {"freed": "is listed", "deepcopy": "was never true"}
    report = report_of(faulty_plugins.IsListed, "freed", "deepcopy", expected_failures=expected)
    assert [(result.outcome, result.message) for result in report.results] == [
        ("expected failure", "is listed"), ("passed unexpectedly", "although: was never true"),
    ]  # fmt: skip
    assert not report.ok


ONE = nn.Linear(4, 3)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: check_layer(nn.Identity, checks=["reset-dept"]),
            ValueError,
            "no check 'reset-dept'; there is reset-depth",
        ),
        (lambda: parametrize_with_checks({}, expected_failures={"bfloat": "?"}), ValueError, "there is bfloat16"),
        (lambda: check_layer(lambda: 3), UnclearPlugin, "must make a torch.nn.Module, it made int"),
        (lambda: check_layer(lambda: ONE), UnclearPlugin, "gave the same module twice"),
        (lambda: check_layer(lambda: nn.Bilinear(2, 3, 4)), UnclearPlugin, "no shape of an input fits; pass shape="),
        (lambda: check_neuron(lambda: nn.Threshold(1e9, 0.0), checks=["causal"]), UnclearPlugin, "fire never or always"),
        (lambda: check_layer(nn.Identity, framework="norse"), ValueError, "snntorch, spikingjelly, got 'norse'"),
    ],
)
def test_what_the_kit_cannot_find_out_is_said(call, error, says):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize(
    ("plugin", "found"),
    [
        (lambda: snntorch.Leaky(beta=0.9), "neuron of snnTorch, step, [5], mem"),
        (lambda: snntorch.Synaptic(0.9, 0.8, init_hidden=True), "neuron of snnTorch, step, [5], mem, syn"),
        (lambda: snntorch.StateLeaky(0.9, channels=5), "neuron of snnTorch, sequence, [5], none"),
        (lambda: nn.Conv2d(3, 4, 3), "layer of snnTorch, step, [3, 8, 8], none"),
        (lambda: sj_layer.Conv1d(3, 4, 3), "layer of SpikingJelly, step and sequence, [3, 8], none"),
        (lambda: sj_layer.Delay(2), "layer of SpikingJelly, step and sequence, [5], unnamed"),
        (sj_neuron.IzhikevichNode, "neuron of SpikingJelly, step and sequence, [5], v, w"),
    ],
)
def test_the_kit_finds_out_what_a_module_is(plugin, found):
    description = repr(Subject(Plugin(plugin))).replace("input ", "").replace(" per sample and step, states: ", ", ")
    assert found in description


def test_lambdas_and_what_test_files_hold_reach_another_process():
    size = 4
    plugin = Plugin(lambda: RightNeuron(size), kind="neuron")
    code = (
        "import sys; from snn_delay_plugins.testing.sending import unpacked\n"
        "print(unpacked(sys.stdin.buffer.read()).factory())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=packed(plugin), capture_output=True, check=False)
    assert done.stdout.strip() == b"RightNeuron()", done.stderr.decode()


def test_the_command_line_prints_reports_and_ends_with_what_came_of_them(capsys):
    assert main(["torch.nn:Linear(4, 3)", "--checks", "causal,deepcopy"]) == 0
    assert "2 passed" in capsys.readouterr().out
    assert main(["snntorch:Leaky(beta=0.9)", "--checks", "freed"]) == 1
    assert main(["snntorch:Leaky(beta=0.9)", "--checks", "freed,causal", "--expect", "freed=is listed", "--markdown"]) == 0
    assert "| `freed` | no (1) |" in capsys.readouterr().out
    assert main(["--list"]) == 0
    assert "reset-depth" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["snntorch"], "give MODULE:EXPRESSION"), ([], "nothing to check"), (["no.such:Thing"], "ModuleNotFoundError"),
        (["torch.nn:Linear(4, 3)", "--checks", "nothing"], "there is no check 'nothing'"),
        (["torch.nn:Linear(4, 3)", "--expect", "reset"], "give KEY=REASON"),
    ],
)  # fmt: skip
def test_the_command_line_says_what_it_misses(given, says):
    with pytest.raises(SystemExit, match=says):
        main(given)


def test_the_kit_needs_neither_pytest_nor_numba():
    code = (
        "import sys; sys.modules.update(pytest=None, numba=None, hypothesis=None)\n"
        "import snntorch\n"
        "from snn_delay_plugins.testing import check_neuron\n"
        "print(check_neuron(lambda: snntorch.Leaky(beta=0.9), checks=['causal', 'reset']).ok)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr
