"""A job array: commands that work on one folder at the same time train every run once, whoever comes first."""

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

from recipes.__main__ import main

ROOT = Path(__file__).parents[2]
COUNTING = """
import sys
from recipes.engine.command import work
train_one = work.train_one
def counted(recipe, run, *rest):
    print("TRAINED", run.network, run.seed, flush=True)
    return train_one(recipe, run, *rest)
work.train_one = counted
from recipes.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_three_processes_at_once_train_nothing_twice_and_the_table_is_whole(tmp_path, capsys):
    table = ["deckers_table1", "--smoke", "--epochs", "1", "--seeds", "2", "--only", "lif,adlif", "--out", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COUNTING, "run", *table]
    array = [
        subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    said = [process.communicate()[0] for process in array]
    assert [process.returncode for process in array] == [0, 0, 0], said
    trained = collections.Counter(line for text in said for line in text.splitlines() if line.startswith("TRAINED"))
    assert trained == {f"TRAINED {network} {seed}": 1 for network in ("lif", "adlif") for seed in (0, 1)}
    assert main(["table", *table]) == 0
    rows = {row["key"]: row for row in json.loads((tmp_path / "deckers_table1.json").read_text())["rows"]}
    assert rows["lif"]["seeds"] == rows["adlif"]["seeds"] == [0, 1]
