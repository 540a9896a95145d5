"""kill -9 and Ctrl-C in the middle of a training, then the same command: the uninterrupted result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes.__main__ import main

ROOT = Path(__file__).parents[2]
COUNTS = ["run", "deckers_table1", "--smoke", "--only", "adlif-plus-delays", "--epochs", "4"]
EVENTS = ["run", "eventprop_yinyang", "--smoke", "--only", "30-delays", "--epochs", "8"]
AUDIO = ["run", "dcls_table2", "--dataset", "gsc", "--smoke", "--epochs", "4"]


def start(command, out):
    return subprocess.Popen(
        [sys.executable, "-m", "recipes", *command, "--threads", "1", "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def start_and_stop(command, out, how):
    """Send the signal once an epoch is safe; the exit code and what was printed."""
    process = start(command, out)
    until = time.monotonic() + 600
    while not list(out.glob("runs/*/last.ckpt")):
        assert time.monotonic() < until and process.poll() is None, process.stdout.read().decode()
        time.sleep(0.002)
    process.send_signal(how)
    text, _ = process.communicate(timeout=600)
    assert not list(out.glob("runs/*/result.json")), "the run ended before the signal came"
    return process.returncode, text.decode()


def finish(command, out):
    """The same command, in this process; the result and its folder."""
    assert main([*command, "--threads", "1", "--out", str(out)]) == 0
    (path,) = out.glob("runs/*/result.json")
    return json.loads(path.read_text()), path.parent


def timeless(history):
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history]


@pytest.mark.parametrize("command", [COUNTS, EVENTS, AUDIO], ids=["counts", "events", "audio"])
def test_the_same_command_after_kill_9_gives_the_uninterrupted_result(command, tmp_path, capsys):
    code, _ = start_and_stop(command, tmp_path / "killed", signal.SIGKILL)
    assert code == -9
    (folder,) = (tmp_path / "killed" / "runs").iterdir()
    (folder / ".last.ckpt.abc.part").write_bytes(b"half a checkpoint")
    (resumed, folder), (whole, _) = finish(command, tmp_path / "killed"), finish(command, tmp_path / "whole")
    assert resumed["resumed"] and not whole["resumed"]
    assert timeless(resumed["history"]) == timeless(whole["history"]) and resumed["best"] == whole["best"]
    assert not list(folder.glob(".*.part"))
    before = (folder / "result.json").stat().st_mtime_ns
    capsys.readouterr()
    finish(command, tmp_path / "killed")  # everything is finished: only the table is made
    assert "1 finished runs" in capsys.readouterr().out
    assert (folder / "result.json").stat().st_mtime_ns == before


def test_a_kill_of_a_run_in_two_processes_loses_no_more_than_an_epoch(tmp_path):
    code, _ = start_and_stop([*EVENTS, "--devices", "2"], tmp_path / "killed", signal.SIGKILL)
    assert code == -9
    (resumed, _), (whole, _) = finish(EVENTS, tmp_path / "killed"), finish(EVENTS, tmp_path / "whole")
    assert resumed["resumed"] and resumed["hardware"]["devices"] == 1
    for one, other in zip(timeless(whole["history"]), timeless(resumed["history"]), strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-4)


def test_ctrl_c_says_how_to_go_on(tmp_path):
    code, text = start_and_stop([*COUNTS, "--epochs", "200"], tmp_path / "stopped", signal.SIGINT)
    assert code == 130 and "The same command goes on" in text and "Traceback" not in text, (code, text)
