"""Delays learned through a Gaussian: this package's layers against the dcls package's Dcls1d.

    python benchmarks/dcls_layer.py [--only training|inference]

``training``: one training step of the network of Hammouamri et al. for SHD (2 x 256 LIF neurons, T_d = 25, right
padding 12 per layer, batch 256, 100 steps of 140 inputs of which 37 % are not zero, as DSP20 in 10 ms bins), with the
same neurons, normalisation, loss and optimizer around either layer; and its three layers alone, forward and backward.

``inference``: one tap per synapse at T = 1000, T_d = 101, 256 -> 256, 1 % of the input not zero. Peer: Dcls1d as the
published code evaluates it (version max, SIG = 0, rounded positions), which builds its kernel in every call.
"""

from __future__ import annotations

import argparse

import measure
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from recipes.dcls.network import HammouamriNetwork
from recipes.engine.training.losses import summed_softmax_cross_entropy
from snn_delay_plugins.spikingjelly import DelayedLinear

T_D, STEPS, INPUTS, CLASSES = 25, 100, 140, 20


class Published(nn.Module):
    """A Dcls1d layer as the published code calls it, ``[T, N, in] -> [T + right, N, out]``."""

    def __init__(self, inputs: int, out: int, taps: int, right: int, version: str = "gauss"):
        super().__init__()
        try:
            from DCLS.construct.modules import Dcls1d
        except ImportError as error:
            raise measure.Absent(str(error)) from error
        self.padding = (taps - 1, right)
        self.dcls = Dcls1d(inputs, out, kernel_count=1, groups=1, dilated_kernel_size=taps, bias=False, version=version)
        self.dcls.SIG.requires_grad_(False)

    def forward(self, spikes: Tensor) -> Tensor:
        padded = nn.functional.pad(spikes.permute(1, 2, 0), self.padding)
        return self.dcls(padded).permute(2, 0, 1)


def training_step(published: bool, batch: int):
    torch.manual_seed(0)
    network = HammouamriNetwork(INPUTS, CLASSES, max_delay=T_D - 1)
    if published:
        for part in [*network.hidden, network]:
            name = "readout" if part is network else "connection"
            ours = getattr(part, name)
            theirs = Published(ours.in_features, ours.out_features, T_D, (T_D - 1) // 2)
            with torch.no_grad():
                theirs.dcls.weight.copy_(ours.weight[..., None])
                theirs.dcls.P.copy_(((T_D - 1) // 2 - ours.delay)[None, ..., None])
                theirs.dcls.SIG.fill_(ours.sigma.item() - 0.27)
            setattr(part, name, theirs)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    torch.manual_seed(2)  # the same input for both
    counts = torch.poisson(torch.full((STEPS, batch, INPUTS), 2.8)) * (torch.rand(STEPS, batch, INPUTS) < 0.4)
    labels = torch.randint(0, CLASSES, (batch,))

    def step() -> float:
        optimizer.zero_grad()
        torch.manual_seed(1)
        loss = summed_softmax_cross_entropy(network(counts).membrane, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def layers_alone(published: bool, batch: int):
    torch.manual_seed(0)
    layers, inputs = [], []
    right = (T_D - 1) // 2
    for number, (before, after) in enumerate(((INPUTS, 256), (256, 256), (256, CLASSES))):
        if published:
            layers.append(Published(before, after, T_D, right))
        else:
            options = {"delay": "uniform", "delay_gradient": "gaussian", "padding": right, "step_mode": "m"}
            layers.append(DelayedLinear(before, after, bias=False, max_delay=T_D - 1, **options))
        spikes = (torch.rand(STEPS + number * right, batch, before) < (0.1 if number else 0.37)).float()
        inputs.append(spikes.requires_grad_(number > 0))

    def step() -> None:
        for layer, spikes in zip(layers, inputs, strict=True):
            functional.reset_net(layer)
            current = layer(spikes)
            current.backward(torch.ones_like(current))

    return step


def inference(kind: str, batch: int):
    torch.manual_seed(0)
    layer = DelayedLinear(256, 256, False, max_delay=100, delay="uniform", delay_gradient="gaussian", step_mode="m")
    layer.eval()
    spikes = (torch.rand(1000, batch, 256) < 0.01).float()
    if kind == "Dcls1d":
        module = Published(256, 256, 101, 0, version="max").eval()
        with torch.no_grad():
            module.dcls.weight.copy_(layer.weight[..., None])
            module.dcls.P.copy_((50 - layer.delay.round())[None, ..., None])
            module.dcls.SIG.zero_()
    else:
        module = layer.discretize() if kind == "discretize()" else layer

    def step() -> Tensor:
        functional.reset_net(module)
        with torch.no_grad():
            return module(spikes)

    return step


def compare(what: str, cases: dict, repeats: int, peer: str, **setting) -> list[dict]:
    print(f"{what}: {setting}", flush=True)
    built = {}
    for name, make in cases.items():
        try:
            built[name] = make()
        except measure.Absent as error:
            print(f"  {name} skipped: {error}")
    results = {name: step() for name, step in built.items()}
    values = [value for value in results.values() if value is not None]
    for value in values[1:]:  # what is compared computes the same
        torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(values[0]), rtol=1e-3, atol=1e-3)
    times = measure.take_turns(built, repeats)
    return [
        {"what": what, **setting, "case": name, **time, **measure.ratios(time, times.get(peer))}
        for name, time in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["training", "inference"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    if args.only != "inference":
        for what, make in (("training step", training_step), ("layers alone", layers_alone)):
            both = (("this package", False), ("Dcls1d", True))
            cases = {name: lambda published=published, make=make: make(published, 256) for name, published in both}
            rows += compare(what, cases, args.repeats, "Dcls1d", batch=256, T_d=T_D, T=STEPS)
    if args.only != "training":
        for batch in (1, 16):
            cases = {kind: lambda kind=kind, batch=batch: inference(kind, batch)
                     for kind in ("discretize()", "layer.eval()", "Dcls1d")}  # fmt: skip
            rows += compare("inference", cases, args.repeats, "Dcls1d", batch=batch, T_d=101, T=1000)
    name = "dcls_layer" if args.only is None else f"dcls_layer_{args.only}"
    measure.write(name, {**measure.setting(), "rows": rows})
    columns = ("what", "batch", "case", "fastest", "median", "cpu", "repeats")
    shown = [{c: row[c] for c in columns} | {k: v for k, v in row.items() if k.startswith("peer")} for row in rows]
    measure.show("Gaussian delays: seconds", shown)
    print(measure.markdown(shown))


if __name__ == "__main__":
    main()
