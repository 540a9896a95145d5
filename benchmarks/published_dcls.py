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
import sys
import types
from pathlib import Path

import measure
import torch
from spikingjelly.activation_based import functional
from torch import nn

from recipes.dcls_table2 import SHD
from recipes.engine.dcls import DclsObjective, HammouamriNetwork
from recipes.engine.losses import summed_softmax
from recipes.engine.objectives import Moment

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


def compare(folder: Path, epochs: int, batches: int, hidden: int) -> dict[str, float]:
    theirs, config = published_code(folder, epochs, hidden)
    theirs.double().train()
    ours = HammouamriNetwork(
        config.n_inputs, CLASSES, **SHD.network_settings | {"hidden": [hidden] * config.n_hidden_layers}
    ).double()
    ours.load_published(theirs.state_dict())
    hyper = SHD.training.__class__(epochs=epochs, batch_size=SHD.training.batch_size)
    objective = DclsObjective(ours, hyper)
    optimizer, optimizers = objective.optimizer(), theirs.optimizers()
    schedules = theirs.schedulers(optimizers)
    generator = torch.Generator().manual_seed(1)
    worst = dict.fromkeys(("loss", "weight", "delay", "norm", "sigma", "evaluation"), 0.0)

    def seen(kind: str, ours_: torch.Tensor, theirs_: torch.Tensor) -> None:
        worst[kind] = max(worst[kind], float((ours_ - theirs_).detach().abs().max()))

    for epoch in range(epochs):
        ours.train()
        objective.before_epoch(epoch)
        for batch in range(batches):
            counts = torch.poisson(torch.full((STEPS, 8, config.n_inputs), 0.4), generator).double()
            labels = torch.randint(0, CLASSES, (8,), generator=generator)
            seed = 1000 * epoch + batch
            torch.manual_seed(seed)
            loss = theirs.calc_loss(theirs(counts), nn.functional.one_hot(labels, CLASSES).double())
            for each in optimizers:
                each.zero_grad()
            loss.backward()
            for each in optimizers:
                each.step()
            theirs.reset_model(train=True)

            torch.manual_seed(seed)
            objective.before_batch(optimizer, Moment(epoch, batch, batches))
            optimizer.zero_grad()
            mine = nn.functional.cross_entropy(summed_softmax(ours(counts).membrane), labels)   # as objective.measure
            mine.backward()
            optimizer.step()
            seen("loss", mine, loss)
            clamped = HammouamriNetwork(
                config.n_inputs, CLASSES, **SHD.network_settings | {"hidden": [hidden] * config.n_hidden_layers}
            ).double()
            clamped.load_published(theirs.state_dict())
            for (name, mine), other in zip(ours.named_parameters(), clamped.parameters(), strict=True):
                kind = "norm" if ".norm." in name else name.rpartition(".")[2]
                if kind == "delay":
                    mine = mine.detach().clamp(0, config.max_delay - 1)
                seen(kind, mine, other)
            for mine, other in zip(ours.connections, clamped.connections, strict=True):
                seen("sigma", mine.sigma, other.sigma)
        for schedule in schedules:
            schedule.step()
        theirs.decrease_sig(epoch)
    theirs.eval(), ours.eval()
    with torch.no_grad():
        discrete(theirs)
        output = theirs(counts)
        functional.reset_net(theirs)
        seen("evaluation", ours(counts).membrane.softmax(2).sum(0), output.softmax(2).sum(0))
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
