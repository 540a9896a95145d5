"""Folders of finished runs whose weights were drawn and not trained: for what is done with runs."""

import json
from pathlib import Path

import torch

from recipes.engine.training import machine
from recipes.tables import TABLES


def make(folder: Path, recipe: str, row: str, *, inputs: int, classes: int, name: str = "miniature", **settings) -> Path:
    """``settings``: changes of the network's. The delays are drawn, too; accuracies are none that were reached."""
    table = TABLES[recipe]
    of = table.settings_of(next(one for one in table.rows if one.key == row))
    of["network"] |= settings
    of |= table.source_of_data.smoke()[0].settings | {"protocol": "clean", "data": f"{name} 0123456789abcdef"}
    of = json.loads(json.dumps(of))
    torch.manual_seed(0)
    network = table.build(inputs, classes, of).network
    with torch.no_grad():
        for of_layer, value in network.named_parameters():
            if of_layer.endswith("delay"):
                value.uniform_(0, min(network.get_submodule(of_layer.rpartition(".")[0]).max_delay, 20))
    reached = {f"{split}_{what}": 50.0 for split in ("train", "valid", "test") for what in ("accuracy", "spikes", "loss")}
    result = {
        "recipe": recipe,
        "network": row,
        "seed": 0,
        "settings": of,
        "data": {
            "name": name,
            "samples": {"train": 192, "valid": 64, "test": 64},
            "inputs": inputs,
            "classes": classes,
            "validation": "none",
        },
        "parameters": sum(value.numel() for value in network.parameters()),
        "history": [{"epoch": 1, **reached}],
        "best": {"clean": {"epoch": 1, **reached}},
        "seconds_per_epoch": 1.0,
        "peak_memory_mib": 1.0,
        "threads": 1,
        "machine": {"processor": "none"},
        "versions": machine.versions(),
    }
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    torch.save(network.state_dict(), folder / "best.pt")
    return folder
