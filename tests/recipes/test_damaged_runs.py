"""A run's files that were damaged: one line that names the file and what to do, nothing is lost, the others go on."""

import contextlib
import io
import json
import os
import pickle
import shutil

import pytest
import torch
from stopping import Stop, stop_at

from recipes.__main__ import main
from recipes.deckers.network import DeckersNetwork
from recipes.engine.errors import RunError
from recipes.engine.results.runs import RunStore
from recipes.engine.training import trainer
from recipes.engine.training.hyperparameters import Hyperparameters
from recipes.engine.training.objectives import SummedSoftmax

NETWORKS = "lif,adlif-plus-delays"
COMMAND = ["run", "deckers_table1", "--smoke", "--only", NETWORKS, "--epochs", "1"]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def saved(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def loaded(content: bytes):
    return torch.load(io.BytesIO(content), weights_only=True)


DAMAGES = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "text": lambda whole: b"hello" * 99,
    "empty": lambda whole: b"",
    "pickle": lambda whole: pickle.dumps(Evil()),
    "archive with a pickle": lambda whole: saved(Evil()),
    "nested": lambda whole: b"[" * 100_000 + b"]" * 100_000,
    "nested pickle": lambda whole: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "nothing": lambda whole: saved(None),
}


def of_checkpoint(**changes):
    def damage(whole: bytes) -> bytes:
        kept = loaded(whole)
        kept |= {name: change(kept[name]) for name, change in changes.items()}
        return saved({name: value for name, value in kept.items() if value is not None})

    return damage


def first(change):
    return lambda states: [change(states[0])]


CHECKPOINTS = DAMAGES | {
    "no epoch": of_checkpoint(epoch=lambda _: None),
    "no weights": of_checkpoint(state_dict=lambda _: None),
    "no loops": of_checkpoint(loops=lambda _: None),
    "no history": of_checkpoint(history=lambda _: None),
    "no objective": of_checkpoint(objective=lambda _: None),
    "no optimizer": of_checkpoint(optimizer_states=lambda _: []),
    "another epoch": of_checkpoint(epoch=lambda _: 10**18),
    "history of NaN": of_checkpoint(history=first(lambda entry: entry | {"valid_accuracy": float("nan")})),
    "history of words": of_checkpoint(history=lambda _: "history"),
    "objective of words": of_checkpoint(objective=lambda _: "objective"),
    "weights of NaN": of_checkpoint(state_dict=lambda state: {k: v * float("nan") for k, v in state.items()}),
    "weights of other shapes": of_checkpoint(state_dict=lambda state: {k: v[None] for k, v in state.items()}),
    "rates of words": of_checkpoint(
        optimizer_states=first(lambda s: s | {"param_groups": [g | {"lr": "fast"} for g in s["param_groups"]]})
    ),
    "moments of other shapes": of_checkpoint(
        optimizer_states=first(
            lambda s: s | {"state": {k: {n: t[:1] if t.dim() else t for n, t in v.items()} for k, v in s["state"].items()}}
        )
    ),
}


@pytest.fixture(scope="module")
def begun(small_splits, tmp_path_factory):
    """The folder of a training that was stopped after its first epoch of two."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.raises(Stop):
        go_on(small_splits, folder, report=stop_at(0.6))
    return folder


def go_on(splits, folder, **options):
    def build():
        hyper = Hyperparameters(2, 16, 0.02, plateau_factor=0.3)
        return SummedSoftmax(DeckersNetwork(140, 4, hidden=(8,), max_delay=3), hyper)

    return trainer.train(build, splits, 0, folder, **options)


@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_a_damaged_checkpoint_is_an_error_that_names_it_and_is_kept(small_splits, begun, damage, monkeypatch):
    monkeypatch.chdir(begun)  # where "ran" would be made
    path = begun / "last.ckpt"
    content = CHECKPOINTS[damage](path.read_bytes())
    with replaced(path, content):
        with pytest.raises(RunError) as error:
            go_on(small_splits, begun)
        assert path.read_bytes() == content and not (begun / "ran").exists()
    assert str(error.value).startswith(f"{path}: ") and "; delete " in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which two networks are finished."""
    out = tmp_path_factory.mktemp("finished")
    assert main([*COMMAND, "--out", str(out)]) == 0
    return out


@contextlib.contextmanager
def replaced(path, content: bytes):
    """Inside the block the file has another content."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def run_folder(out, network="adlif-plus-delays"):
    (folder,) = out.glob(f"runs/{network}_*")
    return folder


def test_a_damaged_checkpoint_is_one_line_and_the_other_networks_are_shown(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "out")
    folder = run_folder(tmp_path / "out")
    (folder / "result.json").unlink()
    path, whole = folder / "last.ckpt", (folder / "last.ckpt").read_bytes()
    path.write_bytes(whole[:-1])
    capsys.readouterr()
    assert main([*COMMAND, "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    line, *_ = (line for line in printed.out.splitlines() if line.startswith("adlif-plus-delays seed 0 is not finished"))
    assert f"{path}: damaged" in line and "delete" in line and "Traceback" not in printed.err
    written = json.loads((tmp_path / "out" / "deckers_table1.json").read_text())
    assert [row["key"] for row in written["rows"] if row["runs"]] == ["lif"] and written["failed"] == [line]
    path.unlink()  # as the line says
    assert main([*COMMAND, "--out", str(tmp_path / "out")]) == 0
    assert not json.loads((folder / "result.json").read_text())["resumed"]


def of_result(*names, value=None):
    def damage(whole: bytes) -> bytes:
        found = json.loads(whole)
        inner = found
        for name in names[:-1]:
            inner = inner[name]
        if value is None:
            del inner[names[-1]]
        else:
            inner[names[-1]] = value
        return json.dumps(found).encode()

    return damage


RESULTS = DAMAGES | {
    "no best": of_result("best"),
    "no history": of_result("history"),
    "no protocol": of_result("settings", "protocol"),
    "no name of the data": of_result("data", "name"),
    "no accuracy": of_result("best", "clean", "test_accuracy"),
    "another protocol": of_result("settings", "protocol", value="fold"),
    "a best epoch that was not": of_result("best", "clean", "epoch", value=99),
    "a history of NaN": of_result("history", value=[{"epoch": 1, "test_accuracy": float("nan")}]),
    "parameters in words": of_result("parameters", value="many"),
    "versions in a list": of_result("versions", value=["torch"]),
    "an endless time": of_result("seconds_per_epoch", value=10**400),
    "many digits": lambda whole: b"1" * 10_000,
}


@pytest.mark.parametrize("damage", RESULTS)
def test_a_damaged_result_is_an_error_that_names_it_beside_the_others(finished, damage):
    path, found = run_folder(finished) / "result.json", []
    with replaced(path, RESULTS[damage](path.read_bytes())):
        assert [run["network"] for run in RunStore(finished).results("deckers_table1", found)] == ["lif"]
    (error,) = map(str, found)
    assert error.startswith(f"{path}: not a result (") and error.endswith(f"; delete {path.parent} to run it again")


def test_a_damaged_result_is_one_line_and_the_other_networks_are_shown(finished, capsys):
    path = run_folder(finished) / "result.json"
    capsys.readouterr()
    with replaced(path, b"[" * 100_000):
        assert main(["table", "deckers_table1", "--out", str(finished)]) == 1
        assert capsys.readouterr().err.startswith(f"left out: {path}: not a result (")
        assert main([*COMMAND, "--out", str(finished)]) == 1
        assert path.read_bytes() == b"[" * 100_000
    assert f"adlif-plus-delays seed 0 is not finished: {path}: not a result (" in capsys.readouterr().out
    rows = json.loads((finished / "deckers_table1.json").read_text())["rows"]
    assert [row["key"] for row in rows if row["runs"]] == ["lif"]


def test_a_run_of_other_settings_beside_a_damaged_one_is_shown_with_them(finished, tmp_path):
    folder = run_folder(finished, "lif")
    result = json.loads((folder / "result.json").read_text())
    result["settings"]["training"]["learning_rate"] = 0.5
    for name, content in ((folder.name, "damaged"), ("lif_seed0_of_others", json.dumps(result))):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "result.json").write_text(content)
    assert main(["table", "deckers_table1", "--only", "lif", "--out", str(tmp_path)]) == 1
    text = (tmp_path / "deckers_table1.md").read_text()
    assert "learning_rate 0.5 (0.01)" in text and f"left out: {tmp_path / 'runs' / folder.name}" in text


WEIGHTS = DAMAGES | {
    "of NaN": lambda whole: saved({name: value * float("nan") for name, value in loaded(whole).items()}),
    "of other shapes": lambda whole: saved({name: value[None] for name, value in loaded(whole).items()}),
    "too few": lambda whole: saved(dict(list(loaded(whole).items())[:3])),
    "negative delays": lambda whole: saved({n: -1 - v if n.endswith("delay") else v for n, v in loaded(whole).items()}),
}


@pytest.mark.parametrize("damage", WEIGHTS)
def test_figures_of_damaged_weights_are_one_line(finished, damage, capsys):
    path = run_folder(finished) / "best.pt"
    capsys.readouterr()
    with replaced(path, WEIGHTS[damage](path.read_bytes())):
        assert main(["table", "deckers_fig8", "--out", str(finished)]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and str(path) in printed and f"delete {path.parent}" in printed


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "pickle"])
def test_a_damaged_recording_is_one_line(finished, damage, capsys):
    path = run_folder(finished) / "raster.npz"
    if not path.exists():
        command = ["run", "deckers_raster", "--smoke", "--epochs", "1", "--out", str(finished)]
        assert main(command) == 0
    capsys.readouterr()
    with replaced(path, DAMAGES[damage](path.read_bytes())):
        assert main(["table", "deckers_raster", "--out", str(finished)]) == 2
    assert f"{path}: damaged" in capsys.readouterr().err


def make_file(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")


def make_lock_folder(folder):
    (folder / ".lock").mkdir(parents=True)


def make_loop(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(folder)


def make_checkpoint_folder(folder):
    (folder / "last.ckpt").mkdir(parents=True)


def make_checkpoint_pipe(folder):
    folder.mkdir(parents=True)
    os.mkfifo(folder / "last.ckpt")


@pytest.mark.parametrize(
    "place",
    [make_file, make_lock_folder, make_loop, make_checkpoint_folder, make_checkpoint_pipe],
    ids=lambda place: place.__name__,
)
def test_what_is_in_the_place_of_a_run_keeps_that_run_alone_from_being_trained(finished, place, tmp_path, capsys):
    folder = tmp_path / "out" / "runs" / run_folder(finished).name
    place(folder)
    shutil.copytree(run_folder(finished, "lif"), tmp_path / "out" / "runs" / run_folder(finished, "lif").name)
    capsys.readouterr()
    assert main([*COMMAND, "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    line, *_ = (line for line in printed.out.splitlines() if line.startswith("adlif-plus-delays seed 0 is not finished"))
    assert str(folder) in line and "Basic LIF" in printed.out
