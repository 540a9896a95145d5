"""``--energy``: synaptic operations of the test samples beside accuracy."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from recipes.__main__ import main
from recipes.engine.command import energy
from recipes.eventprop.network import VoltageNetwork
from snn_delay_plugins import SpikeEvents, synaptic_operations

COMMAND = ["deckers_table1", "--only", "lif,adlif", "--seeds", "1"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder of two networks, one of them measured."""
    out = tmp_path_factory.mktemp("out")
    smoke = ["--smoke", "--epochs", "1", "--threads", "1", "--out", str(out)]
    assert main(["run", COMMAND[0], "--only", "adlif", "--seeds", "1", *smoke]) == 0
    assert main(["run", COMMAND[0], "--only", "lif", "--seeds", "1", *smoke, "--energy"]) == 0
    return out


class Samples:
    """A part of counts uint8 [N, T, channels]."""

    def __init__(self, counts):
        self.counts = counts

    def __len__(self):
        return len(self.counts)

    def batch(self, which, rng):
        return self.counts[torch.from_numpy(which)], torch.zeros(len(which), dtype=torch.int64)


def test_all_samples_of_a_part_are_counted_and_a_count_of_three_is_three_spikes(monkeypatch):
    monkeypatch.setattr(energy, "EVALUATION_BATCH", 2)
    counts = torch.zeros(3, 4, 5, dtype=torch.uint8)
    counts[0, 1, 2], counts[1, 0, 0], counts[2, 3, 4] = 3, 1, 2
    found = energy.operations(nn.Linear(5, 7), Samples(counts), seed=0)
    assert (found.samples, found.synaptic_operations, found.multiply_accumulates) == (3, 6 * 7, 0)
    assert found.energy() == pytest.approx(6 * 7 * 0.9e-12 / 3)
    graded = energy.operations(nn.Linear(5, 7), Samples(counts / 2), seed=0)
    # the batch of the first two is graded; 2 / 2 of the third is a spike
    assert (graded.synaptic_operations, graded.multiply_accumulates) == (7, 2 * 4 * 5 * 7)


def test_events_of_a_network_with_delays_are_counted_by_hand():
    torch.manual_seed(0)
    network = VoltageNetwork(6, 3, hidden=8, layers=1, recurrent=True, initial_delay=5.0, input_weight=(4.0, 2.0),
                             recurrent_weight=(0.1, 0.1))  # fmt: skip
    rng = np.random.default_rng(0)
    samples = [(np.sort(rng.uniform(0, 80, 20)), rng.integers(0, 6, 20)) for _ in range(2)]
    events = SpikeEvents.from_lists(*zip(*samples, strict=True), num_units=6, duration=100.0)

    class Part:
        def __len__(self):
            return 2

        def batch(self, which, rng):
            return events, torch.zeros(2, dtype=torch.int64)

    (hidden,) = network(events).hidden
    found = energy.operations(network, Part(), seed=0)
    assert len(hidden) > 0  # each of its spikes goes to eight neurons again, and to three outputs
    assert found.synaptic_operations == 40 * 8 + len(hidden) * (8 + 3)


def test_what_was_measured_stands_in_the_table_and_what_was_not_is_named(measured, capsys):
    assert main(["table", *COMMAND, "--smoke", "--energy", "--out", str(measured)]) == 0
    assert "Not measured: adlif; run with --energy does." in " ".join(capsys.readouterr().out.split())
    rows = {row["key"]: row for row in json.loads((measured / "deckers_table1.json").read_text())["rows"]}
    (path,) = measured.glob("runs/lif_seed0_*/operations.json")
    kept = json.loads(path.read_text())
    assert kept["samples"] == 64 and kept["synaptic_operations"] > 0
    assert rows["lif"]["synaptic_operations"]["mean"] == kept["synaptic_operations"] / 64
    assert rows["lif"]["nanojoules"]["mean"] == pytest.approx(kept["energy"] * 1e9)
    assert kept["energy"] == pytest.approx(0.9e-12 * kept["synaptic_operations"] / 64)
    assert "synaptic_operations" not in rows["adlif"]
    text = (measured / "deckers_table1.md").read_text()
    assert "SynOps/sample | nJ/sample |" in text and "Horowitz, ISSCC 2014" in text and "MACs/sample" not in text
    result = json.loads((path.parent / "result.json").read_text())  # hidden spikes are those of the chosen epoch
    layers = list(kept["layers"].values())
    hidden = sum(layer["spikes"] for layer in layers[1:])
    neurons = sum(result["settings"]["network"]["hidden"])
    assert hidden / 64 / neurons == pytest.approx(result["best"]["clean"]["test_spikes"], rel=1e-5)


def test_a_damaged_measurement_is_named_and_without_the_option_not_read(measured, tmp_path, capsys):
    (path,) = measured.glob("runs/lif_seed0_*/operations.json")
    before = path.read_text()
    try:
        path.write_text('{"samples": 0}')
        assert main(["table", *COMMAND, "--smoke", "--energy", "--out", str(measured)]) == 2
        assert f"{path}: not what was measured" in capsys.readouterr().err
        assert main(["table", *COMMAND, "--smoke", "--out", str(measured)]) == 0
        assert "SynOps" not in capsys.readouterr().out
    finally:
        path.write_text(before)


def test_operations_of_two_batches_add_up():
    net, batch = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), torch.eye(3).view(3, 1, 3)
    twice = synaptic_operations(net, batch) + synaptic_operations(net, batch)
    once = synaptic_operations(net, torch.cat([batch, batch], 1))
    assert twice.samples == 2 and twice.layers == once.layers
