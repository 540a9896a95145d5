"""Does our network of Hammouamri et al. train as the published code does? The same steps, side by side.

    git clone https://github.com/Thvnvtos/SNN-delays
    python benchmarks/published_dcls.py SNN-delays [--epochs 12] [--batches 3]

Both start from the published code's own initial parameters and see the same random counts and the same dropout, in
float64: the published model class with its own loss, optimizers, schedules, clamping and annealing against the network
and the objective of the recipe ``dcls_table2``. Printed: the largest differences of the loss and of every kind of
parameter, and of the outputs in evaluation (sigma 0, rounded positions). What is left between trainings of the two is then
chance: initial values, order of the batches and dropout.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import sys
import types
from collections.abc import Iterable
from pathlib import Path

import measure
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from recipes.dcls.network import DclsObjective, HammouamriNetwork
from recipes.dcls_table2 import SHD
from recipes.engine.training.losses import summed_softmax
from recipes.engine.training.objectives import Moment

STEPS, CLASSES = 40, 20


def published_code(folder: Path, epochs: int, hidden: int, seed: int = 0):
    """Its model, whose config module is set to these numbers and which seeds torch by itself; logging and data sets,
    which it imports, are not needed."""
    for name in ("wandb", "datasets"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["datasets"].Augs = None
    sys.path.insert(0, str(folder))
    from config import Config
    from snn_delays import SnnDelays

    for name in ("epochs", "t_max_w", "t_max_pos"):
        setattr(Config, name, epochs)
    Config.final_epoch, Config.n_hidden_neurons, Config.seed = epochs // 4, hidden, seed
    return SnnDelays(Config()), Config


def discrete(model) -> None:
    with torch.no_grad():
        for block in model.blocks:
            kernel = block[0][0]
            kernel.SIG *= 0
            kernel.version = kernel.DCK.version = "max"
        model.round_pos()


class Published:
    """The published model and all that trains it."""

    def __init__(self, folder: Path, seed: int, epochs: int, hidden: int, dtype: torch.dtype):
        self.model, self.config = published_code(folder, epochs, hidden, seed)
        self.model.to(dtype)
        self.optimizers = self.model.optimizers()
        self.schedules = self.model.schedulers(self.optimizers)
        self.parts = [self.model, *self.optimizers, *self.schedules]

    def step(self, x: Tensor, labels: Tensor, moment: Moment) -> float:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss = self.model.calc_loss(self.model(x), nn.functional.one_hot(labels, CLASSES).to(x.dtype))
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.reset_model(train=True)
        return loss.item()

    def before_epoch(self, epoch: int) -> None:
        pass

    def after_epoch(self, epoch: int) -> None:
        for schedule in self.schedules:
            schedule.step()
        self.model.decrease_sig(epoch)

    def right(self, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
        """As their ``eval_model``: sigma 0 and rounded positions for the evaluation, then back."""
        before = copy.deepcopy(self.model.state_dict())
        discrete(self.model)
        right = 0
        for x, y in batches:
            right += int((self.model(x).softmax(2).sum(0).argmax(1) == y).sum())
            self.model.reset_model(train=False)
        for block in self.model.blocks:
            kernel = block[0][0]
            kernel.version = kernel.DCK.version = "gauss"
        self.model.load_state_dict(before)
        return right


class Ours:
    """Our network and objective, from the published model's initial parameters."""

    def __init__(self, folder: Path, seed: int, epochs: int, hidden: int, dtype: torch.dtype):
        theirs = Published(folder, seed, epochs, hidden, dtype)
        random = torch.get_rng_state()  # from here on both draw the same
        self.config = theirs.config
        settings = SHD.network_settings | {"hidden": [hidden] * self.config.n_hidden_layers}
        self.model = HammouamriNetwork(self.config.n_inputs, CLASSES, **settings).to(dtype)
        self.model.load_published(theirs.model.state_dict())
        hyper = dataclasses.replace(SHD.training, epochs=epochs, batch_size=self.config.batch_size)
        self.objective = DclsObjective(self.model, hyper)
        self.optimizer = self.objective.optimizer()
        self.parts = [self.model, self.optimizer]
        torch.set_rng_state(random)

    def step(self, x: Tensor, labels: Tensor, moment: Moment) -> float:
        self.objective.before_batch(self.optimizer, moment)
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(summed_softmax(self.model(x).membrane), labels)  # as objective.measure
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def before_epoch(self, epoch: int) -> None:
        self.objective.before_epoch(epoch)

    def after_epoch(self, epoch: int) -> None:
        pass

    def right(self, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
        return sum(int((summed_softmax(self.model(x).membrane).argmax(1) == y).sum()) for x, y in batches)


def compare(folder: Path, epochs: int, batches: int, hidden: int) -> dict[str, float]:
    theirs, ours = (side(folder, 0, epochs, hidden, torch.float64) for side in (Published, Ours))
    config = theirs.config
    theirs.model.train()
    generator = torch.Generator().manual_seed(1)
    worst = dict.fromkeys(("loss", "weight", "delay", "norm", "sigma", "evaluation"), 0.0)

    def seen(kind: str, ours_: torch.Tensor, theirs_: torch.Tensor) -> None:
        worst[kind] = max(worst[kind], float((ours_ - theirs_).detach().abs().max()))

    for epoch in range(epochs):
        ours.model.train()
        ours.before_epoch(epoch)
        for batch in range(batches):
            counts = torch.poisson(torch.full((STEPS, 8, config.n_inputs), 0.4), generator).double()
            labels = torch.randint(0, CLASSES, (8,), generator=generator)
            seed = 1000 * epoch + batch
            losses = []
            for side in (ours, theirs):
                torch.manual_seed(seed)
                losses.append(side.step(counts, labels, Moment(epoch, batch, batches)))
            seen("loss", *torch.tensor(losses, dtype=torch.float64))
            clamped = HammouamriNetwork(
                config.n_inputs, CLASSES, **SHD.network_settings | {"hidden": [hidden] * config.n_hidden_layers}
            ).double()
            clamped.load_published(theirs.model.state_dict())
            for (name, mine), other in zip(ours.model.named_parameters(), clamped.parameters(), strict=True):
                kind = "norm" if ".norm." in name else name.rpartition(".")[2]
                if kind == "delay":
                    mine = mine.detach().clamp(0, config.max_delay - 1)
                seen(kind, mine, other)
            for mine, other in zip(ours.model.connections, clamped.connections, strict=True):
                seen("sigma", mine.sigma, other.sigma)
        theirs.after_epoch(epoch)
    theirs.model.eval(), ours.model.eval()
    with torch.no_grad():
        discrete(theirs.model)
        output = theirs.model(counts)
        functional.reset_net(theirs.model)
        seen("evaluation", ours.model(counts).membrane.softmax(2).sum(0), output.softmax(2).sum(0))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a checkout of the published code")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batches", type=int, default=3, help="per epoch")
    parser.add_argument("--hidden", type=int, default=64, help="neurons per layer")
    args = parser.parse_args()
    torch.set_num_threads(1)
    worst = compare(args.folder, args.epochs, args.batches, args.hidden)
    for kind, difference in worst.items():
        print(f"{kind:12s} {difference:.2e}")
    counts = {name: getattr(args, name) for name in ("epochs", "batches", "hidden")}
    measure.write("published_dcls", {**measure.setting(), **counts, "largest_difference": worst})


if __name__ == "__main__":
    main()
