"""What a training runs on: processor or GPUs, how many, and at which precision."""

import contextlib
import dataclasses
from typing import Protocol

import torch

from ..data.sources import Splits
from ..errors import OptionError
from . import launcher


class Asked(Protocol):
    """What a user has said of it; None: nothing."""

    @property
    def accelerator(self) -> str | None: ...
    @property
    def devices(self) -> int | None: ...
    @property
    def num_nodes(self) -> int | None: ...
    @property
    def precision(self) -> str | None: ...


@dataclasses.dataclass(frozen=True)
class Hardware:
    """``devices`` processes on each of ``nodes``, each with its own GPU or a share of the processor; every batch is divided
    among them all."""

    accelerator: str = "cpu"
    devices: int = 1
    precision: str = "32"
    nodes: int = 1

    @property
    def processes(self) -> int:
        return self.devices * self.nodes

    @property
    def group(self) -> "launcher.Group | None":
        """The processes that a launcher has started for this training; None: this one starts them all."""
        return launcher.group(self.devices, self.nodes)

    @property
    def leads(self) -> bool:
        """Whether this process says what is trained, and writes it."""
        return self.group is None or self.group.leads

    def leading(self) -> contextlib.AbstractContextManager:
        """Around all that is trained where this process :attr:`leads`."""
        return contextlib.nullcontext() if self.group is None else self.group.leading()

    @classmethod
    def chosen(cls, given: Asked, objective: type) -> "Hardware":
        """What the options ask for, for this kind of training. Raises :class:`OptionError` where this machine or the
        training cannot do it."""
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        asked = given.accelerator or "auto"
        if asked == "gpu" and not objective.runs_on_gpu:
            raise OptionError("--accelerator gpu: this recipe's networks run on the processor alone; use cpu or auto")
        if asked == "gpu" and not gpus:
            raise OptionError("--accelerator gpu: torch sees no GPU here; use cpu or auto")
        accelerator = "gpu" if asked == "gpu" or (asked == "auto" and gpus and objective.runs_on_gpu) else "cpu"
        devices, nodes = launcher.divide(given.devices, given.num_nodes)
        precision = given.precision or "32"
        if accelerator == "gpu" and devices > gpus:
            raise OptionError(f"--devices {devices}: torch sees {gpus} GPUs here (--accelerator cpu uses processes)")
        if devices * nodes > 1 and not torch.distributed.is_available():
            raise OptionError(f"--devices {devices}: this torch was built without torch.distributed")
        if precision != "32" and not objective.mixed_precision:
            raise OptionError(f"--precision {precision}: this recipe's networks compute in 32 bits alone")
        if precision == "16-mixed" and accelerator == "cpu":
            raise OptionError("--precision 16-mixed: needs a GPU; bf16-mixed also runs on the processor")
        if precision == "bf16-mixed" and accelerator == "gpu" and not torch.cuda.is_bf16_supported():
            raise OptionError("--precision bf16-mixed: this GPU has no bfloat16; use 16-mixed or 32")
        return cls(accelerator, devices, precision, nodes)

    def check(self, splits: Splits, batch_size: int) -> None:
        """Raises :class:`OptionError` where a batch would leave one of the processes without a sample."""
        train = len(splits.train)
        smallest = min(batch_size, train % batch_size or batch_size)
        if smallest < self.processes:
            raise OptionError(
                f"{self.asked}: of {train} training samples in batches of {batch_size} the smallest batch "
                f"has {smallest}, too few to divide; choose another --batch-size"
            )
        for name, part in splits.evaluated.items():
            if len(part) < self.processes:
                raise OptionError(f"{self.asked}: the {name} set has {len(part)} samples, too few to divide")

    @property
    def asked(self) -> str:
        """As options."""
        return f"--devices {self.devices}" + (f" --num-nodes {self.nodes}" if self.nodes > 1 else "")

    def describe(self) -> dict:
        """For a result: what it was trained on."""
        gpu = {"gpu": torch.cuda.get_device_name()} if self.accelerator == "gpu" else {}
        nodes = {"nodes": self.nodes} if self.nodes > 1 else {}
        return {"accelerator": self.accelerator, "devices": self.devices, **nodes, "precision": self.precision, **gpu}


ONE_PROCESS = Hardware()
