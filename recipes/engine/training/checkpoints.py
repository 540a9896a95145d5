"""Whether a training can go on from a checkpoint."""

import math
from pathlib import Path

import torch
from torch import Tensor

from ..errors import RunError
from .dropout import drawn_as
from .kept import check_weights, is_history, load_kept
from .objectives import Objective


def history_of(checkpoint: Path, objective: Objective, criterion: str) -> list[dict]:
    """The epochs that a checkpoint was taken after. Raises :class:`RunError` where it cannot be continued."""
    remedy = remedy_for(checkpoint)
    kept = load_kept(checkpoint, remedy)
    if not isinstance(kept, dict):
        raise RunError(f"{checkpoint}: holds no training; {remedy}")
    if "objective" not in kept or kept.get("drawn_as") != drawn_as(objective.network):
        raise RunError(
            f"{checkpoint}: written by an earlier version, which cannot be continued; "
            f"delete {checkpoint.parent} to begin the run anew"
        )
    history, most = kept.get("history"), objective.hyper.epochs
    if not is_history(history) or not {criterion, "learning_rate", "seconds"} <= history[0].keys() or len(history) > most:
        raise RunError(f"{checkpoint}: holds no history of this training; {remedy}")
    if missing := {"optimizer_states", "lr_schedulers", "loops"} - kept.keys():
        raise RunError(f"{checkpoint}: holds no {', '.join(sorted(missing))}; {remedy}")
    if kept.get("epoch") != len(history) - 1:  # counted from 0
        raise RunError(f"{checkpoint}: its epoch is not that of its history; {remedy}")
    expected = {f"network.{name}": value for name, value in objective.network.state_dict().items()}
    check_weights(kept.get("state_dict"), expected, checkpoint, remedy, finite=True)
    return history


def remedy_for(checkpoint: Path) -> str:
    return f"delete {checkpoint.name} there to train this run from the start"


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError for no state, which would begin anew, and for one of other sizes than the parameters, which torch
    takes, to fail in the first step."""
    if not optimizer.state:
        raise ValueError("no state of the optimizer")
    for group in optimizer.param_groups:
        numbers = [group["lr"], group.get("eps", 0.0), group.get("weight_decay", 0.0), *group.get("betas", ())]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("numbers of the optimizer that are not finite")
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")
