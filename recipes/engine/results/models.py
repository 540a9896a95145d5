"""A network to hand on: a folder of three files, which ``predict`` and ``load`` take as they take a run.

::

    MODEL/model.json     the recipe, its settings, what it was trained on, what it reaches
          weights.pt     the state dict, for ``torch.load(path, weights_only=True)``
          README.md      the model card

Nothing in it says on which machine it was trained, or where the data were.
"""

import hashlib
import io
import json
from pathlib import Path

import torch
from torch import nn

from ..errors import RunError, one_line
from ..files import plain_files
from ..training.kept import is_count, is_number

FILE, WEIGHTS, CARD = "model.json", "weights.pt", "README.md"
FORMAT = 1
_KEPT = ("recipe", "network", "seed", "settings", "data", "parameters", "versions")


def describe(result: dict) -> dict:
    """What of a run's result goes into its model."""
    protocol = result["settings"]["protocol"]
    chosen = result["chosen"] if "chosen" in result else result["best"][protocol]
    return {"format": FORMAT} | {name: result[name] for name in _KEPT} | {"chosen": chosen}


def write(folder: Path, described: dict, network: nn.Module) -> None:
    """Weights and settings into a folder that is there."""
    packed = io.BytesIO()
    torch.save(network.state_dict(), packed)
    (folder / WEIGHTS).write_bytes(packed.getbuffer())
    whole = described | {"weights": {"file": WEIGHTS, "sha256": hashlib.sha256(packed.getbuffer()).hexdigest()}}
    (folder / FILE).write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read(folder: Path) -> dict:
    """``model.json`` of a folder. Raises :class:`RunError` where it, or the weights beside it, are not as written."""
    path = folder / FILE
    try:
        plain_files.checked(path)
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            made = found.get("format") if isinstance(found, dict) else None
            raise ValueError(f"format {made!r}; this version reads {FORMAT}")
        data = found["data"]
        if not (is_count(data["inputs"]) and is_count(data["classes"]) and isinstance(found["settings"], dict)):
            raise ValueError("data without inputs and classes")
        names, duration = data.get("class_names", []), data.get("duration", 1.0)
        if not isinstance(names, list) or not (is_number(duration) and duration > 0):
            raise ValueError("class_names is no list, or duration no time")
        if not isinstance(found["recipe"], str) or not isinstance(found["versions"], dict):
            raise ValueError("no recipe and versions")
        expected = found["weights"]["sha256"]
    except RunError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: not a model ({one_line(error, 100)})") from error
    weights = folder / WEIGHTS
    if weights.is_file() and hashlib.sha256(weights.read_bytes()).hexdigest() != expected:
        raise RunError(f"{weights}: damaged, or not the weights that {FILE} describes")
    return found
