"""A job array: commands that work on one folder at the same time train every run once, whoever comes first."""

import collections
import json

import launched_commands

from recipes.__main__ import main


def test_three_processes_at_once_train_nothing_twice_and_the_table_is_whole(tmp_path, capsys):
    table = ["deckers_table1", "--smoke", "--epochs", "1", "--seeds", "2", "--only", "lif,adlif"]
    array = launched_commands.start_tasks(3, ["run", *table], tmp_path)
    for process in array:
        process.join(600)
    said = [(tmp_path / f"said{task}").read_text() for task in range(3)]
    assert [process.exitcode for process in array] == [0, 0, 0], said
    trained = collections.Counter(line for text in said for line in text.splitlines() if line.startswith("TRAINED"))
    assert trained == {f"TRAINED {network} {seed}": 1 for network in ("lif", "adlif") for seed in (0, 1)}
    assert main(["table", *table, "--out", str(tmp_path)]) == 0
    rows = {row["key"]: row for row in json.loads((tmp_path / "deckers_table1.json").read_text())["rows"]}
    assert rows["lif"]["seeds"] == rows["adlif"]["seeds"] == [0, 1]
