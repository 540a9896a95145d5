"""kill -9 and Ctrl-C in the middle of a training, then the same command: the uninterrupted result."""

import json
import signal
import time
from pathlib import Path

import pytest
import stopped_commands as commands
import torch
from stopping import timeless

from recipes.__main__ import main

COUNTS = ["run", "deckers_table1", "--smoke", "--only", "adlif-plus-delays", "--epochs", "3"]
EVENTS = ["run", "eventprop_yinyang", "--smoke", "--only", "30-delays", "--epochs", "3"]
AUDIO = ["run", "dcls_table2", "--dataset", "gsc", "--smoke", "--epochs", "3"]
PLACES = {
    "counts": (COUNTS, commands.while_the_second_checkpoint_is_put_into_its_place, 1),
    "events": (EVENTS, commands.in_the_third_epoch, 2),
    "audio": (AUDIO, commands.in_the_third_epoch, 2),
}


def stop(command, out, how, place):
    code, text = commands.stop(command, out, how, place)
    assert not list(out.glob("runs/*/result.json")), text
    return code, text


def finish(command, out):
    """The same command, in this process; the result and its folder."""
    assert main([*command, "--threads", "1", "--out", str(out)]) == 0
    (path,) = out.glob("runs/*/result.json")
    return json.loads(path.read_text()), path.parent


def epochs_kept(folder):
    return len((folder / "metrics.csv").read_text().splitlines()) - 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of a command that nothing stops."""
    results = {}

    def of(command):
        if command[1] not in results:
            results[command[1]] = finish(command, tmp_path_factory.mktemp("whole"))[0]
        return results[command[1]]

    return of


@pytest.mark.parametrize("command, place, epochs", PLACES.values(), ids=PLACES)
def test_the_same_command_after_kill_9_gives_the_uninterrupted_result(command, place, epochs, whole, tmp_path, capsys):
    code, text = stop(command, tmp_path / "killed", signal.SIGKILL, place)
    assert code == -signal.SIGKILL, text
    (folder,) = (tmp_path / "killed" / "runs").iterdir()
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == epochs - 1  # counted from 0
    assert bool(list(folder.glob(".last.ckpt.*.part"))) == (epochs == 1)  # the second one has not got its name yet
    resumed, folder = finish(command, tmp_path / "killed")
    assert resumed["resumed"] and not whole(command)["resumed"]
    assert timeless(resumed["history"]) == timeless(whole(command)["history"])
    assert resumed["best"] == whole(command)["best"]
    assert not list(folder.glob(".*.part"))
    before = (folder / "result.json").stat().st_mtime_ns
    capsys.readouterr()
    finish(command, tmp_path / "killed")  # everything is finished: only the table is made
    assert "1 finished run in " in capsys.readouterr().out
    assert (folder / "result.json").stat().st_mtime_ns == before


def test_a_kill_of_a_run_in_two_processes_ends_both_and_loses_no_more_than_an_epoch(whole, tmp_path):
    """Nobody may go on writing into a run that the next command takes over."""
    killed = tmp_path / "killed"
    code, text = stop([*EVENTS, "--devices", "2"], killed, signal.SIGKILL, commands.in_the_third_epoch)
    assert code == -signal.SIGKILL, text
    (workers,) = killed.glob("runs/*/workers")
    pids = [int(pid) for pid in workers.read_text().split()]
    assert len(pids) == 2
    until = time.monotonic() + 300
    while Path("/proc").is_dir() and (alive := [pid for pid in pids if running(pid)]):
        assert time.monotonic() < until, f"{alive} live on"
        time.sleep(0.01)
    assert epochs_kept(workers.parent) >= 2
    resumed, _ = finish(EVENTS, killed)
    assert resumed["resumed"] and resumed["hardware"]["devices"] == 1
    for one, other in zip(timeless(whole(EVENTS)["history"]), timeless(resumed["history"]), strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-4)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT], ids=lambda how: how.name)
def test_a_signal_that_ends_the_command_says_how_to_go_on(how, tmp_path):
    code, text = stop(COUNTS, tmp_path / "stopped", how, commands.in_the_third_epoch)
    assert code == 128 + how and "The same command goes on" in text and "Traceback" not in text, (code, text)
    (folder,) = (tmp_path / "stopped" / "runs").iterdir()
    assert epochs_kept(folder) == 2
