"""The kit finds what it is to find, and nothing where there is nothing."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("snntorch.surrogate", reason="snnTorch is missing: pip install 'snn_delay_plugins[snntorch]'")
pytest.importorskip(
    "spikingjelly.activation_based", reason="SpikingJelly is missing: pip install 'snn_delay_plugins[spikingjelly]'"
)

from snn_delay_plugins.testing import all_checks, parametrize_with_checks
from snn_delay_plugins.testing.registry import find_check
from snn_delay_plugins.testing.running import perform
from snn_delay_plugins.testing.subject import Subject

from .faulty_plugins import FAULTY, RIGHT


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
