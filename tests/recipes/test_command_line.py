"""``python -m recipes``: options, their errors, and the smoke run of every recipe."""

import argparse
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import recipes
from recipes.__main__ import _perform, find_recipes, main
from recipes.deckers_table1 import RECIPE
from recipes.engine.command import options
from recipes.engine.errors import Diverged
from recipes.engine.training import trainer

ROOT = Path(__file__).parents[2]
RECIPES = sorted(find_recipes())


def refused(capsys, *arguments):
    """The one line that a refused command prints; nothing else may have happened."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2 and printed.out == "" and printed.err.count("\n") == 1
    return printed.err


def test_the_list_names_every_recipe(capsys):
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert {"deckers_fig3", "deckers_table1"} <= set(RECIPES) and all(name in printed for name in RECIPES)


def test_help_shows_what_the_paper_used_instead_of_our_numbers(capsys):
    with pytest.raises(SystemExit):
        main(["run", "eventprop_yinyang", "--help"])
    printed = capsys.readouterr().out
    assert "epochs 300" in printed and "The paper instead: seeds 8, learning_rate 0.001" in printed


def test_help_shows_what_the_paper_used(capsys):
    with pytest.raises(SystemExit):
        main(["run", "deckers_table1", "--help"])
    printed = capsys.readouterr().out
    for expected in (
        "epochs 100",
        "batch_size 128",
        "learning_rate 0.01",
        "  seeds 10",
        "SHD",
        "delay_rate_factor 10.0",
        "dropout 0.5",
    ):
        assert expected in printed


TABLE = ("run", "deckers_table1")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "--list"),
        (("run",), "NAME"),
        (("run", "deckers_table9"), "deckers_table9"),
        (("paint", "deckers_table1"), "paint"),
        ((*TABLE, "--offline"), "shd_train.h5.gz is missing, and downloads are forbidden; put https://"),
        ((*TABLE, "--offline"), "or name a folder that has SHD with --data-dir"),
        (("run", "dcls_table2", "--dataset", "ssc"), "ssc_train.h5.zip is missing, and downloads are forbidden"),
        (("run", "dcls_table2", "--dataset", "gsc"), "speech_commands_v0.02.tar.gz is missing, and downloads"),
        (("run", "eventprop_braille"), "reading_braille_data.zip is missing, and downloads are forbidden"),
        (("run", "eventprop_braille", "--encoding", "theta1"), "--data-dir is missing: a folder with braille_raw"),
        (("download", "SHD"), "shd_train.h5.gz is missing, and downloads are forbidden"),
        (("download", "MNIST"), "MNIST"),
        ((*TABLE, "--data-dir", "/nowhere/at/all"), "/nowhere/at/all: no such folder"),
        ((*TABLE, "--data-dir", "/nowhere", "--smoke"), "drop --data-dir"),
        ((*TABLE, "--smoke", "--seeds", "0"), "'0' is not a whole number of at least 1"),
        ((*TABLE, "--smoke", "--seeds", "-1"), "--seeds"),
        ((*TABLE, "--smoke", "--seeds", "1,1"), "different ones"),
        ((*TABLE, "--smoke", "--seeds", "1,x"), "list of different ones"),
        ((*TABLE, "--smoke", "--epochs", "0"), "'0' is not a whole number of at least 1"),
        ((*TABLE, "--smoke", "--epochs", "1.5"), "'1.5' is not a whole number"),
        ((*TABLE, "--smoke", "--batch-size", "none"), "'none' is not a whole number"),
        ((*TABLE, "--smoke", "--threads", "0"), "--threads"),
        ((*TABLE, "--smoke", "--threads", "1000000000"), "'1000000000' is more than 1024"),
        ((*TABLE, "--smoke", "--seeds", "999999999999"), "'999999999999' is more than 10000 seeds"),
        ((*TABLE, "--smoke", "--seeds", "1,99999999999999999999"), "seeds are below 4294967296"),
        ((*TABLE, "--smoke", "--epochs", "9" * 5000), "is more than 1000000"),
        ((*TABLE, "--smoke", "--epochs", "-1"), "'-1' is not a whole number"),
        ((*TABLE, "--smoke", "--batch-size", "0"), "'0' is not a whole number"),
        ((*TABLE, "--smoke", "--protocol", "dirty"), "dirty"),
        ((*TABLE, "--smoke", "--only", "lif,glif"), "--only glif: unknown network"),
        ((*TABLE, "--smoke", "--out", "/proc/nothing/here"), "--out /proc/nothing/here"),
        ((*TABLE, "--smoke", "--epoch", "3"), "--epoch"),  # no abbreviations
        ((*TABLE, "--smoke", "--gpu"), "--gpu"),
        (("run", "dcls_table2", "--dataset", "gsc", "--smoke", "--duration", "1"), "--duration is not for --dataset gsc"),
        (("run", "deckers_table2", "--dataset", "gsc", "--smoke", "--allow-silence"), "--allow-silence is not for"),
        (("table", "deckers_table2", "--dataset", "tidigits"), "'tidigits'"),
        (("table", "deckers_table1", "--devices", "2"), "--devices is for training alone"),
        (("plot", "deckers_fig8", "--tensorboard"), "--tensorboard is for training alone"),
        ((*TABLE, "--smoke", "--devices", "0"), "'0' is not a whole number of at least 1"),
        ((*TABLE, "--smoke", "--devices", "49"), "--devices 49: batches of 48 samples are too small"),
        ((*TABLE, "--smoke", "--accelerator", "tpu"), "'tpu'"),
        ((*TABLE, "--smoke", "--precision", "8"), "'8'"),
        ((*TABLE, "--smoke", "--precision", "16-mixed", "--accelerator", "cpu"), "--precision 16-mixed: needs a GPU"),
        (("run", "eventprop_shd", "--smoke", "--precision", "bf16-mixed"), "compute in 32 bits alone"),
        (("table", "deckers_table1", "--out", "/tmp/there is nothing here", "--precision", "32"), "no finished runs"),
        (("table", "deckers_table1", "--out", "/tmp/there is nothing here"), "no finished runs"),
        (("plot", "deckers_table1", "--out", "/tmp/there is nothing here"), "no finished runs"),
        (("plot", "dcls_table2", "--out", "/tmp/there is nothing here"), "recipes run dcls_table2 --dataset shd"),
        (("table", "deckers_table2", "--dataset", "ssc", "--out", "/tmp/nothing here"), "run deckers_table2 --dataset ssc"),
        (("table", "eventprop_yinyang", "--data-dir", "/tmp"), "generates its data; drop it"),
        (("run", "deckers_fig3", "--epochs", "3"), "--epochs"),
        (("run", "deckers_fig3", "--steps", "10"), "--steps 10"),
        (("run", "deckers_fig3", "--alpha", "1"), "--alpha 1.0"),
        (("run", "deckers_fig3", "--a-range", "1", "-1"), "--a-range 1 -1"),
        (("run", "deckers_fig3", "--points", "2"), "--points 2"),
        (("run", "deckers_fig3", "--weight", "nan"), "--weight nan"),
        (("run", "deckers_fig3", "--a-range", "1", "inf"), "'inf' is not a number"),
        (("run", "deckers_fig3", "--points", "100000"), "--points 100000, --steps 100: more than"),
        (("run", "eventprop_sequence", "--learning-rate", "nan"), "'nan' is not a number"),
        (("run", "eventprop_sequence", "--learning-rate", "-1"), "--learning-rate -1: must not be negative"),
        (("tune", "deckers_fig3"), "invalid choice: 'deckers_fig3'"),
        (("tune", "deckers_table2"), "deckers_table2 shows the runs of deckers_table1; tune that"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_impossible_command_is_one_clear_line_before_any_work(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recipes.engine.data.binned.read", lambda *_: pytest.fail("work began"))
    assert message in refused(capsys, *arguments)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: path.write_text(""), "a file, not a folder"),
        (lambda path: path.symlink_to("nowhere"), "a link that leads nowhere (nowhere)"),
        (lambda path: path.symlink_to(path), "a link that leads nowhere"),
    ],
    ids=["file", "dangling link", "looping link"],
)
def test_what_cannot_be_a_folder_is_one_clear_line(make, message, capsys, tmp_path):
    make(tmp_path / "it")
    assert f"--out {tmp_path / 'it'}: {message}" in refused(capsys, *TABLE, "--smoke", "--out", tmp_path / "it")
    assert f"{tmp_path / 'it'}: no such folder" in refused(capsys, *TABLE, "--data-dir", tmp_path / "it")


def test_a_full_disk_is_one_clear_line_and_nothing_is_written_half(table, monkeypatch, capsys, tmp_path):
    def full(handle, of=os.fsync):
        raise OSError(errno.ENOSPC, "no space")

    command = [*TABLE, "--smoke", "--only", "lif", "--epochs", "1", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(command) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "best.pt: no space left on device; free some space" in printed
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]
    assert main(command) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(command) == 2
    assert "deckers_table1.md: no space left on device" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_malformed_file_is_one_clear_line(capsys, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"shd_{split}.h5").write_bytes(b"garbage")
    error = refused(capsys, *TABLE, "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert "shd_train.h5: not an HDF5 file" in error


def test_a_missing_extra_is_one_line_that_names_it(tmp_path):
    (tmp_path / "h5py.py").write_text("raise ModuleNotFoundError('No module named h5py', name='h5py')")
    done = subprocess.run(
        [sys.executable, "-m", "recipes", "run", "deckers_table1", "--smoke"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (
        done.returncode == 1
        and done.stderr.strip() == "python -m recipes: h5py is missing: pip install 'snn_delay_plugins[recipes]'"
    )


@pytest.mark.parametrize("name", ["lightning", "matplotlib.figure"])
def test_what_is_missing_when_it_is_first_needed_is_one_line_that_names_it(name, capsys):
    class Recipe:
        def run(self, given):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    assert _perform("deckers_table1", Recipe(), argparse.Namespace(action="run")) == 1
    assert capsys.readouterr().err == f"python -m recipes: {name} is missing: pip install 'snn_delay_plugins[recipes]'\n"


@pytest.mark.parametrize("name", ["recipes.engine.lost", "snn_delay_plugins.lost", None])
def test_a_lost_file_of_our_own_is_no_missing_extra(name):
    class Recipe:
        def run(self, given):
            raise ModuleNotFoundError("lost", name=name)

    with pytest.raises(ModuleNotFoundError, match="lost"):
        _perform("deckers_table1", Recipe(), argparse.Namespace(action="run"))
    with pytest.raises(ModuleNotFoundError, match="lost"), recipes._extra():
        raise ModuleNotFoundError("lost", name=name)


def test_loading_a_run_without_the_extra_says_what_to_install():
    needed = r"recipes need h5py: pip install 'snn_delay_plugins\[recipes\]'"
    with pytest.raises(ImportError, match=needed), recipes._extra():
        raise ModuleNotFoundError("No module named 'h5py'", name="h5py")


# ------------------------------------------------------------------------------------------------------ smoke


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The smoke run of Table 1, cut to one epoch."""
    out = tmp_path_factory.mktemp("table")
    assert main([*TABLE, "--smoke", "--epochs", "1", "--out", str(out)]) == 0
    return out


def test_smoke_gives_the_whole_table_and_its_plots(table):
    names = {path.name for path in table.iterdir()}
    endings = (".md", ".csv", ".json", "_accuracy.png", "_accuracy.pdf", "_learning_curves.png", "_learning_curves.pdf")
    assert names == {"runs", *(f"deckers_table1{ending}" for ending in endings)}
    rows = json.loads((table / "deckers_table1.json").read_text())["rows"]
    assert [row["runs"] for row in rows] == [1] * len(RECIPE.rows)
    assert all(0 <= row["test"]["mean"] <= 100 for row in rows)


def test_the_table_can_be_made_again_from_the_finished_runs(table, capsys):
    before = (table / "deckers_table1.md").read_text()
    (table / "deckers_table1.md").unlink()
    assert main(["table", "deckers_table1", "--out", str(table)]) == 0
    assert (table / "deckers_table1.md").read_text() == before and "Basic LIF" in capsys.readouterr().out
    assert main(["plot", "deckers_table1", "--out", str(table)]) == 0


def test_the_table_can_be_cut_to_some_networks_and_seeds(table, tmp_path, capsys):
    assert main(["table", "deckers_table1", "--out", str(table), "--only", "lif", "--seeds", "1"]) == 0
    assert "no finished runs" in refused(
        capsys.readouterr() and capsys, "table", "deckers_table1", "--out", table, "--seeds", "4,5"
    )
    assert "no finished runs" in refused(capsys, "table", "deckers_table1", "--out", table, "--protocol", "paper")


def test_runs_with_different_settings_do_not_share_a_table(table, capsys):
    assert main([*TABLE, "--smoke", "--epochs", "2", "--only", "lif", "--out", str(table)]) == 0
    capsys.readouterr()
    assert "training epochs: 1, 2" in refused(capsys, "table", "deckers_table1", "--out", table)
    assert main(["table", "deckers_table1", "--out", str(table), "--epochs", "1"]) == 0


def test_the_paper_protocol_can_be_run(tmp_path):
    arguments = [*TABLE, "--smoke", "--epochs", "1", "--only", "lif", "--protocol", "paper", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "Protocol paper" in (tmp_path / "deckers_table1.md").read_text()


def test_a_training_that_diverges_leaves_the_others_their_turn(monkeypatch, tmp_path, capsys):
    def train(build, splits, seed, folder, *others, of=trainer.train, **options):
        if folder.name.startswith("lif_"):
            raise Diverged("the loss became nan in epoch 1, batch 2 (seed 0)")
        return of(build, splits, seed, folder, *others, **options)

    monkeypatch.setattr(trainer, "train", train)
    command = [*TABLE, "--smoke", "--epochs", "1", "--out", str(tmp_path)]
    assert main([*command, "--only", "lif,adlif"]) == 1
    assert "lif seed 0 is not finished: the loss became nan in epoch 1" in capsys.readouterr().out
    rows = json.loads((tmp_path / "deckers_table1.json").read_text())["rows"]
    assert {row["key"]: row["runs"] for row in rows if row["runs"]} == {"adlif": 1}
    assert main([*command, "--only", "lif"]) == 1 and "another process" not in capsys.readouterr().out


@pytest.mark.parametrize("networks, done", [("lif", "0.00/1 run "), ("lif,adlif", "0.00/2 runs ")])
def test_runs_that_failed_are_not_among_those_done(networks, done, monkeypatch, tmp_path, capsys):
    def train(build, splits, seed, folder, report, **options):
        report(1.0, None)
        raise Diverged("the loss became nan")

    monkeypatch.setattr(trainer, "train", train)
    assert main([*TABLE, "--smoke", "--only", networks, "--out", str(tmp_path)]) == 1
    assert done in capsys.readouterr().out
    for folder in tmp_path.glob("runs/*"):
        (folder / "result.json").write_text("{}")  # damaged: failed before anything begins
    assert main([*TABLE, "--smoke", "--only", networks, "--out", str(tmp_path)]) == 1
    assert done in capsys.readouterr().out


@pytest.mark.parametrize(
    "recipe, networks, change, message",
    [
        ("eventprop_yinyang", "5-delays,30-delays", "learning_rate=1e5", "fires more than max_spikes"),
        ("deckers_table1", "lif,adlif", "learning_rate=1e38", "the membrane potential became NaN or infinite"),
        ("dcls_table2", "hidden-2", "weight_rate=1e38", "without overflow"),
    ],
)
def test_networks_that_run_away_are_a_line_each_and_an_exit_code(recipe, networks, change, message, tmp_path, capsys):
    command = ["run", recipe, "--smoke", "--only", networks, "--epochs", "2", "--set", change, "--out", str(tmp_path)]
    assert main(command) == 1
    printed = capsys.readouterr()
    for network in networks.split(","):
        (line,) = (line for line in printed.out.splitlines() if line.startswith(f"{network} seed 0 is not finished: "))
        assert message in line and "a smaller learning rate may help" in line
    assert len(list(tmp_path.glob("runs/*"))) == len(networks.split(",")) and not list(tmp_path.glob("runs/*/result.json"))


def test_an_error_that_is_no_divergence_is_not_taken_for_one(monkeypatch, tmp_path):
    def wrong(self, *_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(RECIPE.objective, "measure", wrong)
    with pytest.raises(RuntimeError, match="a bug"):
        main([*TABLE, "--smoke", "--only", "lif", "--epochs", "1", "--out", str(tmp_path)])


# -------------------------------------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    "recipe, change, message",
    [
        ("deckers_table1", "hidden=64", "--set hidden=64: needs a list, as [64,64] (default [128, 128])"),
        ("deckers_table1", "hidden=[64,1.5]", "needs a list, as [128,128]"),
        ("deckers_table1", "hidden=0", "needs a list, as [128,128]"),
        ("eventprop_braille", "input_weight=2", "--set input_weight=2: needs a list, as [2,2] (default [1.5, 1.5])"),
        ("eventprop_braille", "regularisation=1e-8", "needs a list, as [1e-08,1e-08]"),
        ("deckers_table1", "dropout=true", "--set dropout=true: needs float (default 0.5)"),
        ("deckers_table1", "norm_momentum=low", '--set norm_momentum="low": needs float (default 0.05)'),
        ("deckers_table1", "max_delay=30", "the networks of this table differ in it; change it in the recipe"),
        ("deckers_table1", "learning_rate=NaN", "NaN is no setting; give a finite number"),
        ("deckers_table1", "learning_rate=-1", "learning_rate must not be negative, got -1"),
        ("deckers_table1", "dropout=1.5", "--set dropout=1.5: dropout probability"),
        ("dcls_table2", "sigma=wide", 'sigma must be "published", "text" or "constant"'),
        ("eventprop_braille", "input_weight=[1.0]", "needs a list, as [1.5,1.5] (default [1.5, 1.5])"),
        ("eventprop_braille", "spike_times=fuzzy", '--set spike_times="fuzzy": spike_times'),
        ("eventprop_shd", "inputs=3", "--set inputs: no such setting; choose from"),
        ("deckers_table1", "learning_rat=0.1", "(did you mean learning_rate?)"),
        ("deckers_table1", "hidden=[]", "--set hidden=[]: hidden must not be empty"),
        ("deckers_table1", "hidden=[64,0]", "hidden[1] must be at least 1 and at most 100000, got 0"),
        ("deckers_table1", f"hidden=[{10**400}]", "hidden[0] must be a finite number"),
        ("deckers_table1", "dropout=2", "dropout probability"),
        ("deckers_table1", "norm_momentum=5", "norm_momentum must be at least 0 and at most 1, got 5"),
        ("deckers_table1", "right_padding=-100", "right_padding must not be negative, got -100"),
        ("deckers_table1", "right_padding=1000000000", "right_padding must be at least 0 and at most 100000"),
        ("deckers_table1", "learning_rate=1e400", "1e400 is no setting; give a finite number"),
        ("deckers_table1", "learning_rate=1e300", "learning_rate must be a finite number that fits into 32 bits"),
        ("deckers_table1", "learning_rate=-Infinity", "-Infinity is no setting"),
        ("deckers_table1", "min_learning_rate=-1e-3", "min_learning_rate must not be negative"),
        ("deckers_table1", "delay_rate_factor=-2", "delay_rate_factor must not be negative"),
        ("deckers_table1", "plateau_factor=3", "plateau_factor must be at least 0 and at most 1, got 3"),
        ("deckers_table1", "plateau_patience=-1", "plateau_patience must not be negative"),
        ("deckers_table1", f"plateau_patience={'9' * 5000}", "is no setting"),
        ("deckers_table1", "hidden=" + "[" * 100_000, "is no setting"),
        ("deckers_table2", "init_state=ones", "init_state"),
        ("dcls_table2", "time_constant=1", "time_constant must be above 1 and below 1e+06, got 1"),
        ("dcls_table2", "synapses=0", "synapses must be at least 1"),
        ("dcls_table2", "weight_rate=-1", "weight_rate must not be negative"),
        ("dcls_table2", "weight_decay=-1", "weight_decay must not be negative"),
        ("dcls_table2", "max_delay=-1", "max_delay must not be negative"),
        ("eventprop_braille", "dt=0", "dt must be at least 0.001 and at most 1000, got 0"),
        ("eventprop_braille", "tau_mem=-20", "tau_mem must be at least 0.001"),
        ("eventprop_braille", "input_weight=[1.0,-1.0]", "input_weight[1] must not be negative, got -1"),
        ("eventprop_braille", "weight_fan_in=0", "weight_fan_in must be at least 1"),
        ("eventprop_braille", "decay=1.5", "decay must be at least 0 and at most 1"),
        ("eventprop_braille", "patience=-1", "patience must not be negative, got -1"),
        ("eventprop_braille", "regularisation=[-1e-8]", "regularisation[0] must not be negative"),
        ("eventprop_braille", "readout_time=0", "readout_time must be at least 0.001"),
        ("eventprop_yinyang", "delta_t=-1", "delta_t must not be negative"),
        ("eventprop_yinyang", "bump=-1", "bump must not be negative"),
        ("eventprop_yinyang", "input_weight=[1e30,0]", "fires more than max_spikes"),
    ],
)
def test_a_setting_that_cannot_be_is_one_clear_line_before_any_training(recipe, change, message, tmp_path, capsys):
    assert message in refused(capsys, "run", recipe, "--smoke", "--set", change, "--out", tmp_path)
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    "value, kind, fitting",
    [
        (3, int, True), (3.0, int, False), (True, int, False), (3, float, True), (False, float, False), ("3", float, False),
        (None, int | None, True), (None, int, False), (True, bool, True), (1, bool, False), ("zeros", str, True),
        ([1, 2], options.Sequence[int], True), ([1, 2.5], options.Sequence[int], False), ([], options.Sequence[int], True),
        ([1, 2.5], tuple[float, float], True), ([1.0], tuple[float, float], False), (1.0, tuple[float, float], False),
        ([1.0, "x"], tuple[float, float], False),
    ],
)  # fmt: skip
def test_a_value_fits_a_kind(value, kind, fitting):
    assert options.fits(value, kind) == fitting
