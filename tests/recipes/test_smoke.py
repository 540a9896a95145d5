"""Every recipe's ``--smoke``: table and pictures, without any download; then ``table`` and ``plot`` from what is there."""

import json
from pathlib import Path

import pytest

from recipes.__main__ import find_recipes, main
from recipes.engine.files import downloads

RECIPES = find_recipes()
COMMANDS = {
    f"{name} {data}".strip(): (name, *(("--dataset", data) if data else ()))
    for name, recipe in RECIPES.items()
    for data in getattr(recipe, "parts", ("",))
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """One folder for every default folder: views find the runs of their table there."""
    return tmp_path_factory.mktemp("results")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_smoke_gives_table_and_pictures(command, out, monkeypatch):
    monkeypatch.setattr(downloads, "obtain", lambda *_: pytest.fail("something is downloaded"))
    recipe = RECIPES[command[0]]
    recipe = recipe.parts[command[2]] if len(command) > 1 else recipe
    folder = out / Path(recipe.default_out).name
    assert main(["run", *command, "--smoke", "--out", str(folder)]) == 0
    written = sorted(folder.glob(f"{recipe.name}*.*"))
    assert {".csv", ".json", ".png", ".pdf"} <= {path.suffix for path in written}
    for path in written:
        if path.suffix == ".json":
            json.loads(path.read_text())
        path.unlink()
    assert main(["table", *command, *smoke_options(recipe), "--out", str(folder)]) == 0
    assert main(["plot", *command, *smoke_options(recipe), "--out", str(folder)]) == 0
    assert sorted(folder.glob(f"{recipe.name}*.*")) == written


def smoke_options(recipe):
    """A recipe without runs computes its table anew."""
    return () if hasattr(recipe, "seeds") or hasattr(recipe, "of") else ("--smoke",)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("action", ["run", "table", "plot"])
def test_help_says_what_the_paper_used(name, action, capsys):
    with pytest.raises(SystemExit) as stop:
        main([action, name, "--help"])
    assert stop.value.code == 0 and "The paper used" in capsys.readouterr().out


def test_a_cost_is_measured_once_and_shown_by_the_settings_that_are_asked_for(out, capsys):
    folder = str(out / "eventprop_cost")
    smoke = ["run", "eventprop_cost", "--smoke", "--delays", "2", "4", "--out", folder]
    assert main(smoke) == 0
    measured = {path: path.stat().st_mtime_ns for path in (out / "eventprop_cost").glob("runs/*.json")}
    capsys.readouterr()
    assert main(smoke) == 0 and "EventProp, hidden" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (out / "eventprop_cost").glob("runs/*.json")} == measured
    assert main(["table", "eventprop_cost", "--delays", "2", "--out", folder]) == 0
    shown = json.loads((out / "eventprop_cost" / "eventprop_cost.json").read_text())["measured"]
    assert {m["settings"]["max_delay"] for m in shown} == {2} and len(shown) == len(measured) / 2
    damaged, *_ = measured
    before = damaged.read_text()
    for text in ("", "[" * 100_000, "{}", '{"settings": 1}'):
        damaged.write_text(text)
        capsys.readouterr()
        assert main(["table", "eventprop_cost", "--out", folder]) == 2
        assert f"{damaged}: not a measurement" in capsys.readouterr().err
    damaged.write_text(before)
    capsys.readouterr()
    assert main(["plot", "eventprop_cost", "--hidden", "9", "--out", folder]) == 2
    assert "nothing has been measured with these options" in capsys.readouterr().err
