"""Fig. 3: output spikes over the plane of a and b."""

import csv
import json

import pytest
import torch

from recipes import deckers_fig3
from recipes.__main__ import main
from recipes.deckers_fig3 import Neuron


def loop(neuron, a, b):
    """Output spikes by Eq. 1, step by step."""
    u = w = s = 0.0
    count = 0
    for current in neuron.current().tolist():
        u, w = (
            neuron.alpha * u + (1 - neuron.alpha) * (current - w) - s,
            neuron.beta * w + (1 - neuron.beta) * a * u + b * s,
        )
        s = float(u >= 1)
        count += int(s)
    return count


@pytest.mark.parametrize("neuron", [Neuron(), Neuron(0.6, 0.96, 4.0, 3, 60)])
def test_the_plane_counts_what_equation_1_does(neuron):
    a, b = torch.linspace(-40, 40, 9, dtype=torch.float64), torch.linspace(-0.5, 2, 6, dtype=torch.float64)
    counts = neuron.plane(a, b)
    assert counts.tolist() == [[loop(neuron, x, y) for x in a.tolist()] for y in b.tolist()]


def test_the_input_is_twelve_spikes():
    assert (Neuron().current() > 0).sum() == 12


def test_the_neuron_without_adaptation_repeats_its_input():
    zero = torch.zeros(1, dtype=torch.float64)
    spikes, _ = Neuron().respond(zero, zero)
    assert torch.equal(spikes[:, 0] > 0, Neuron().current() > 0)


def test_the_unstable_region_lies_at_negative_a_and_none_where_adlif_plus_works():
    a, b = torch.linspace(-40, 40, 41, dtype=torch.float64), torch.linspace(0, 2, 41, dtype=torch.float64)
    counts = Neuron().plane(a, b)
    assert all(deckers_fig3.checks(a, b, counts).values())
    wild = deckers_fig3.unstable(counts)
    assert 0.1 < wild[:, a < 0].double().mean() < 0.9 and not wild[:, a >= 0].any()
    assert (counts == 6).any() and (counts == 1).any() and counts[0, 20] == 12  # the parametrisations that the paper marks


def test_a_check_can_fail():
    a, b = torch.linspace(-40, 40, 9, dtype=torch.float64), torch.linspace(0, 2, 9, dtype=torch.float64)
    counts = torch.zeros(9, 9)
    assert not deckers_fig3.checks(a, b, counts)["there is an unstable region at negative a"]
    counts[4, 4] = 13
    assert not deckers_fig3.checks(a, b, counts)["nothing is unstable at a, b >= 0"]


def test_smoke_prints_the_checks_and_writes_table_and_picture(tmp_path, capsys):
    assert main(["run", "deckers_fig3", "--smoke", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("yes") == 3
    assert (tmp_path / "deckers_fig3.png").read_bytes()[:4] == b"\x89PNG"
    assert all(json.loads((tmp_path / "deckers_fig3.json").read_text())["checks"].values())
    with open(tmp_path / "deckers_fig3.csv") as file:
        assert len(list(csv.DictReader(file))) == 41 * 41


def test_a_plane_that_is_not_as_the_paper_says_is_told_by_the_exit_code(tmp_path, capsys):
    assert main(["table", "deckers_fig3", "--smoke", "--alpha", "0.36", "--beta", "0.96", "--out", str(tmp_path)]) == 1
    assert "NO  nothing is unstable at a, b >= 0" in capsys.readouterr().out
