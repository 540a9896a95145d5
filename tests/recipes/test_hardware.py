"""What a training runs on: chosen from the options, refused where it cannot be."""

import argparse
import importlib.util
import json

import pytest
import torch

from recipes.__main__ import main
from recipes.engine.errors import OptionError
from recipes.engine.training.hardware import Hardware
from recipes.engine.training.objectives import Objective


class OnProcessor(Objective):
    runs_on_gpu = mixed_precision = False


def chosen(objective=Objective, **options):
    given = dict.fromkeys(("accelerator", "devices", "num_nodes", "precision"))
    return Hardware.chosen(argparse.Namespace(**given | options), objective)


@pytest.fixture(params=[0, 2], ids="{} GPUs".format)
def gpus(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    return request.param


def test_a_gpu_is_used_where_there_is_one_and_the_networks_can(gpus):
    assert chosen() == Hardware("gpu" if gpus else "cpu", 1, "32")
    assert chosen(OnProcessor) == chosen(accelerator="cpu") == Hardware("cpu", 1, "32")


def test_what_this_machine_cannot_do_is_refused(gpus):
    refused = {
        "--devices 3: torch sees 2 GPUs": (Objective, {"devices": 3}, [2]),
        "torch sees no GPU": (Objective, {"accelerator": "gpu"}, [0]),
        "processor alone": (OnProcessor, {"accelerator": "gpu"}, [0, 2]),
        "16-mixed: needs a GPU": (Objective, {"precision": "16-mixed", "accelerator": "cpu"}, [0, 2]),
        "no bfloat16": (Objective, {"precision": "bf16-mixed"}, [2]),
        "32 bits alone": (OnProcessor, {"precision": "bf16-mixed"}, [0, 2]),
    }
    for message, (objective, options, where) in refused.items():
        if gpus in where:
            with pytest.raises(OptionError, match=message):
                chosen(objective, **options)
        elif message != "processor alone":
            chosen(objective, **options)


def test_tensorboard_is_asked_for_before_any_work(monkeypatch, tmp_path, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tensorboard" else find(name, *a))
    assert main(["run", "deckers_table1", "--smoke", "--tensorboard", "--out", str(tmp_path / "out")]) == 2
    assert "tensorboard is missing: pip install" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_half_precision_is_another_run_and_is_logged_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command = ["run", "deckers_table1", "--smoke", "--only", "lif", "--epochs", "2", "--out", str(tmp_path)]
    assert main(command) == 0
    assert main([*command, "--precision", "bf16-mixed", "--tensorboard"]) == 0
    found = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/result.json")]
    results = {result["hardware"]["precision"]: result for result in found}
    assert set(results) == {"32", "bf16-mixed"}
    half = results["bf16-mixed"]
    assert half["settings"].pop("precision") == "bf16-mixed" and half["settings"] == results["32"]["settings"]
    (folder,) = tmp_path.glob("runs/*/tensorboard")
    logged = EventAccumulator(str(folder)).Reload()
    assert [(e.step, e.value) for e in logged.Scalars("accuracy/valid")] == [
        (entry["epoch"], pytest.approx(entry["valid_accuracy"])) for entry in half["history"]
    ]
    assert main(["table", "deckers_table1", "--out", str(tmp_path)]) == 2  # two different runs share no table
    assert main(["table", "deckers_table1", "--out", str(tmp_path), "--precision", "bf16-mixed"]) == 0
    assert "precision bf16-mixed" in (tmp_path / "deckers_table1.md").read_text()
