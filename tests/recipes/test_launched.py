"""Commands that torchrun or srun has started on several nodes, here simulated on one machine."""

import argparse
import json

import launched_commands
import pytest
from stopping import timeless

from recipes.__main__ import main
from recipes.engine.errors import OptionError
from recipes.engine.training import launcher
from recipes.engine.training.hardware import Hardware
from recipes.engine.training.objectives import Objective

COMMAND = ["run", "eventprop_yinyang", "--smoke", "--only", "30-delays", "--epochs", "2"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The result of one process, for seed 1."""
    out = tmp_path_factory.mktemp("alone")
    assert main([*COMMAND, "--seeds", "1,", "--threads", "1", "--out", str(out)]) == 0
    return result(out)


def result(out):
    (path,) = out.glob("runs/*/result.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("started_by", launched_commands.LAUNCHERS)
def test_two_nodes_train_what_one_process_does_and_a_run_that_fails_on_one_ends_on_both(started_by, alone, tmp_path):
    nodes = launched_commands.start_nodes(started_by, [*COMMAND, "--seeds", "2"], tmp_path)
    for node in nodes:
        node.join(600)
    first, second = ((tmp_path / f"said{node}").read_text() for node in range(2))
    assert [node.exitcode for node in nodes] == [1, 0], (first, second)
    assert "seed 0 is not finished: on the second node alone" in first and "Written: " in first
    assert second == ""  # the first one alone reports and writes
    ours = result(tmp_path)
    assert ours["seed"] == 1
    assert ours["hardware"] == {"accelerator": "cpu", "devices": 1, "nodes": 2, "precision": "32"}
    for one, two in zip(timeless(alone["history"]), timeless(ours["history"]), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-4)
    assert "2 nodes with 1 process, each 1 thread" in (tmp_path / "eventprop_yinyang.md").read_text()


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}
SRUN = {"SLURM_STEP_NUM_TASKS": "6", "SLURM_NODEID": "1", "SLURM_LOCALID": "2"}


@pytest.mark.parametrize(
    "environment, devices, nodes, divided",
    [
        ({}, None, None, (1, 1)),
        ({}, 4, None, (4, 1)),
        ({}, None, 2, "--num-nodes 2: start this command on every node, by torchrun or srun"),
        ({"SLURM_NTASKS": "6"}, 4, None, (4, 1)),  # a batch script, without srun
        (TORCHRUN, None, None, (3, 2)),
        (TORCHRUN, 3, 2, (3, 2)),
        (TORCHRUN, 2, None, "--devices 2 --num-nodes 1: torchrun has started 3 processes on 2 nodes; drop"),
        (TORCHRUN | {"WORLD_SIZE": "six"}, None, None, "WORLD_SIZE to 'six', which is no number"),
        (SRUN, None, None, (1, 1)),  # as a job array
        (SRUN, 3, 2, (3, 2)),
        (SRUN, 3, None, "--devices 3 --num-nodes 1: srun has started 6 tasks; use --nodes=1 --ntasks-per-node=3"),
        (SRUN, 6, None, "its 6 tasks otherwise; use --ntasks-per-node=6"),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, 4, None, (4, 1)),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, 1, 2, "srun has started 1 tasks; use --nodes=2 --ntasks-per-node=1"),
    ],
)
def test_what_a_launcher_has_started_is_what_the_options_say(environment, devices, nodes, divided, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(divided, tuple):
        assert launcher.divide(devices, nodes) == divided
        given = argparse.Namespace(accelerator="cpu", devices=devices, num_nodes=nodes, precision=None)
        assert Hardware.chosen(given, Objective) == Hardware("cpu", divided[0], "32", divided[1])
    else:
        with pytest.raises(OptionError, match=divided):
            launcher.divide(devices, nodes)


def test_tasks_that_are_commands_of_their_own_share_nothing(monkeypatch):
    """srun without the options: runs are claimed by locks."""
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    assert launcher.group(*launcher.divide(None, None)) is None and Hardware().leads
