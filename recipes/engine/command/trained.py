"""A finished run as something to use: its network with the weights of its chosen epoch, and what reads recordings."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..data.sources import Part, Source
from ..errors import DataError, OptionError, RunError, one_line
from ..results import models
from ..results.runs import read_result
from ..training import machine
from ..training.batches import EVALUATION_BATCH
from ..training.kept import check_weights, load_kept
from ..training.objectives import Objective

if TYPE_CHECKING:
    from .recipe import TableRecipe


@dataclasses.dataclass(frozen=True)
class Trained:
    """``network`` is in evaluation and takes what ``source`` reads; ``result`` is what ``result.json`` says of the run."""

    network: nn.Module
    objective: Objective
    source: Source
    result: dict

    @property
    def classes(self) -> int:
        return self.result["data"]["classes"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """As the data of the training said them; empty where they did not."""
        names = self.result["data"].get("class_names", ())
        return tuple(map(str, names)) if len(names) == self.classes else ()

    def recordings(self, path: Path | str, allow_silence: bool = False) -> Part:
        """The samples of one file, as the network takes them: ``part.batch(which, rng)`` gives inputs and labels, -1 where
        the file has none. Raises :class:`~recipes.engine.errors.DataError`."""
        return self.source.recordings(Path(path), allow_silence)

    @torch.no_grad()
    def probabilities(self, inputs: object) -> Tensor:
        """Of every class, ``[N, classes]``, for inputs as a part's batches give them. Raises :class:`DataError` where one
        is no number."""
        self.network.eval()
        found = torch.softmax(self.objective.scores(inputs).double(), 1)
        if not bool(found.isfinite().all()):
            raise DataError("the network's answer is not a number")
        return found

    def predict(self, path: Path | str, allow_silence: bool = False) -> tuple[Tensor, Tensor]:
        """Probabilities ``[samples, classes]`` and labels ``[samples]`` (-1: none) of one file. Raises
        :class:`~recipes.engine.errors.DataError`."""
        return self.predict_part(self.recordings(path, allow_silence))

    def predict_part(self, part: Part) -> tuple[Tensor, Tensor]:
        """Likewise of samples that are read already."""
        probabilities, labels = (torch.cat(parts) for parts in zip(*self._batches(part), strict=True))
        return probabilities, labels

    def _batches(self, part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(part), EVALUATION_BATCH):
            which = np.arange(start, min(start + EVALUATION_BATCH, len(part)))
            inputs, labels = part.batch(which, np.random.default_rng(0))
            yield self.probabilities(inputs), labels


def load(folder: Path, recipe_of: "Mapping[str, TableRecipe]") -> Trained:
    """The run or the model (:mod:`recipes.engine.results.models`) in ``folder``; ``recipe_of`` has its recipe by name.
    Raises :class:`RunError` for what is no finished run of this version and no model,
    :class:`~recipes.engine.errors.OptionError` for runs on data whose files cannot be read one by one."""
    path, result = _described(folder)
    weights, again = folder / "best.pt", " ".join(map(str, result.get("command", ()))) or "run its recipe"
    remedy = f"{_made(result)}; train it again: {again}"
    if path.name == models.FILE:
        weights, remedy = folder / models.WEIGHTS, f"{_made(result)}; get the model again, or export it from its run"
    recipe = recipe_of.get(result["recipe"])
    if recipe is None:
        raise RunError(f"{path}: there is no recipe {one_line(ValueError(result['recipe']), 60)} here; {remedy}")
    try:
        source = recipe.source_of_data.of_run(result["settings"]).knowing(result["data"])
        objective = recipe.build(result["data"]["inputs"], result["data"]["classes"], result["settings"])
    except OptionError:
        raise
    except (TypeError, AttributeError, LookupError, RuntimeError, ArithmeticError, ValueError) as error:
        raise RunError(f"{path}: its settings make no network ({one_line(error)}); {remedy}") from error
    if not weights.exists():
        raise RunError(f"{weights}: not there; {remedy}")
    state = load_kept(weights, remedy)
    check_weights(state, objective.network.state_dict(), weights, remedy, finite=True)
    objective.network.load_state_dict(state)
    objective.network.eval()
    return Trained(objective.network, objective, source, result)


def _described(folder: Path) -> tuple[Path, dict]:
    """The file that says what the run or the model in ``folder`` is, and what it says."""
    if not folder.is_dir():
        raise RunError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; a run and a model are folders"
        )
    model, result = folder / models.FILE, folder / "result.json"
    if model.exists():
        return model, models.read(folder)
    if result.exists():
        return result, read_result(result)
    if (folder / "last.ckpt").exists():
        raise RunError(f"{folder}: no result.json; the run is not finished: run its recipe again")
    inside = sorted(path.parent for pattern in ("*", "runs/*") for path in folder.glob(f"{pattern}/result.json"))
    named = f"; it holds {len(inside)}, {inside[0]} for one" if inside else ""
    raise RunError(f"{folder}: no run and no model (neither result.json nor {models.FILE} in it){named}")


def _made(result: dict) -> str:
    theirs, ours = result["versions"].get("snn_delay_plugins"), machine.versions().get("snn_delay_plugins")
    return f"it was made with snn_delay_plugins {theirs}, this is {ours}"
