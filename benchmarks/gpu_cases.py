"""What ``benchmarks/on_gpu.py`` measures: training steps, each with the bytes and the operations that it cannot do without.

Bytes are those of every array that goes to memory or comes from it once; operations are floating-point ones. Divided by
what the card was measured to move and to compute they give the two times that no kernel beats.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snn_delay_plugins import EventPropLI, EventPropLIF, SpikeEvents
from snn_delay_plugins.delays import LINEAR
from snn_delay_plugins.functional.adlif import AdLIFState, adlif, adlif_step
from snn_delay_plugins.functional.convolution import causal_convolution
from snn_delay_plugins.functional.dcls import gaussian_delayed_linear
from snn_delay_plugins.functional.windows import windowed_linear


class Workload(NamedTuple):
    """Sizes of everything that is measured."""

    steps: int
    samples: int
    features: int
    delay_steps: int
    delay_samples: int
    inputs: int
    longest: tuple[int, ...]
    clips: int
    events: int
    batch: int
    widths: tuple[int, ...]
    classes: int
    duration: float
    repeats: int


FULL = Workload(1000, 256, 512, 250, 64, 700, (64, 256), 8156, 7000, 256, (256, 512), 20, 1000.0, 10)
TINY = Workload(4, 2, 3, 6, 2, 3, (2,), 4, 4, 2, (3,), 2, 6.0, 1)


class Measured(NamedTuple):
    """A training step (forward and backward), and what it cannot do without."""

    name: str
    step: Callable[[], object]
    bytes: float | None = None
    operations: float | None = None
    of: str = "float32"
    """What the operations are done in."""


def timed(step: Callable[[], object], device: torch.device, repeats: int, seconds: float = 10.0) -> dict[str, float | None]:
    """Median time in ms, by the device's own events on CUDA, after two warm-ups; the memory that it takes above what is
    held, in MiB. A step slower than ``seconds`` / ``repeats`` runs less often, but once at least after its warm-up."""
    cuda = device.type == "cuda"
    start = time.perf_counter()
    step()
    if cuda:
        torch.cuda.synchronize()
    if repeats > 1 and time.perf_counter() - start < seconds:
        step()
    gc.collect()
    held = 0
    if cuda:
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    times, start = [], time.perf_counter()
    while not times or (len(times) < repeats and time.perf_counter() - start < seconds):
        if cuda:
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            step()
            after.record()
            after.synchronize()
            times.append(before.elapsed_time(after))
        else:
            before = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - before))
    memory = (torch.cuda.max_memory_allocated() - held) / 2**20 if cuda else None
    return {"ms": statistics.median(times), "fastest": min(times), "repeats": len(times), "mib": memory}


def _copied(count: int, device: torch.device) -> float:
    """ms, of so many numbers of four bytes, each read and written."""
    source, target = (torch.zeros(count, device=device) for _ in range(2))
    return timed(lambda: target.copy_(source), device, 10, 2.0)["fastest"]


def limits(device: torch.device, tiny: bool) -> Iterator[tuple[str, float]]:
    """What the card does at most: bytes a second of a copy, operations a second of a product of matrices in each dtype."""
    count = 1 << (12 if tiny else 28)
    yield "bytes", 8e3 * count / _copied(count, device)
    for dtype in (torch.float32, torch.float64):
        size = 16 if tiny else 8192
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        ms = timed(lambda a=a, b=b: a @ b, device, 5, 2.0)["fastest"]
        yield str(dtype).removeprefix("torch."), 2e3 * size**3 / ms


# ------------------------------------------------------------------------------------------------ neurons


def neurons(device: torch.device, of: Workload, kernel: str) -> Iterator[Measured]:
    """AdLIF+ over a sequence: the kernel, the step loop in plain PyTorch, and torch.compile of its step."""
    shape = of.steps, of.samples, of.features
    current = (torch.randn(shape, device=device) * 3 + 1).requires_grad_()
    p = {name: torch.rand(of.features, device=device).requires_grad_() for name in ("alpha", "beta", "a", "b")}
    seed = torch.randn(shape, device=device)
    numbers = float(current.numel())

    def over(method: str) -> Callable[[], object]:
        def step():
            spikes, _ = adlif(current, **p, method=method)
            return torch.autograd.grad(spikes, [current, *p.values()], seed)

        return step

    # forward: the current in, spikes and two traces out; backward: those of the spikes, current and traces in, one out
    yield Measured("AdLIF+, kernel", over(kernel), 4 * numbers * (4 + 5), numbers * (14 + 34))
    yield Measured("AdLIF+, step loop", over("torch"))
    if device.type == "cuda":
        compiled = torch.compile(adlif_step, dynamic=False)

        def loop():
            state = AdLIFState(*torch.zeros(3, *shape[1:], device=device))
            total = 0.0
            for t in range(shape[0]):
                state = compiled(current[t], state, **p)
                total = total + (state.s * seed[t]).sum()
            return torch.autograd.grad(total, [current, *p.values()])

        yield Measured("AdLIF+, torch.compile of the step", loop)


# ------------------------------------------------------------------------------------------------ delays


def delays(device: torch.device, of: Workload, kernel: str) -> Iterator[Measured]:
    """A layer with delays: the kernel, conv1d with a kernel over all lags (cuDNN), Dcls1d."""
    n_out = of.widths[0]
    spikes = (torch.rand(of.delay_steps, of.delay_samples, of.inputs, device=device) < 0.03).float()
    for longest in of.longest:
        weight = torch.randn(n_out, of.inputs, device=device).requires_grad_()
        delay = (torch.rand(n_out, of.inputs, device=device) * longest).requires_grad_()
        seed = torch.randn(of.delay_steps, of.delay_samples, n_out, device=device)
        dense = 2.0 * of.delay_steps * of.delay_samples * n_out * of.inputs

        def step(method, weight=weight, delay=delay, seed=seed, longest=longest):
            current = windowed_linear(spikes, weight, delay, rule=LINEAR, max_delay=longest, method=method)
            return torch.autograd.grad(current, [weight, delay], seed)

        arrays = 4.0 * (3 * spikes.numel() + 2 * seed.numel() + 4 * weight.numel())
        yield Measured(f"delays up to {longest}, kernel", lambda step=step: step(kernel), arrays, 4 * dense)
        over_lags = torch.randn(longest + 1, n_out, of.inputs, device=device).requires_grad_()

        def convolution(over_lags=over_lags, seed=seed):
            return torch.autograd.grad(causal_convolution(spikes, over_lags, "direct", 0), [over_lags], seed)

        for method in (kernel, "direct"):

            def gaussian(method=method, weight=weight, delay=delay, seed=seed, longest=longest):
                current = gaussian_delayed_linear(spikes, weight, delay, 0.5, max_delay=longest, method=method)
                return torch.autograd.grad(current, [weight, delay], seed)

            form = "windows of its taps" if method == kernel else "all lags"
            yield Measured(f"Gaussian delays up to {longest}, sigma 0.5, {form}", gaussian)
        taps = 4.0 * over_lags.numel()
        yield Measured(f"delays up to {longest}, conv1d", convolution, arrays + 2 * taps, 2 * dense * (longest + 1))
        try:
            from DCLS.construct.modules import Dcls1d
        except ImportError:
            continue
        dcls = Dcls1d(
            of.inputs, n_out, kernel_count=1, groups=1, dilated_kernel_size=longest + 1, bias=False, version="gauss"
        ).to(device)
        padded = nn.functional.pad(spikes.permute(1, 2, 0), (longest, 0)).contiguous()
        by_unit = seed.permute(1, 2, 0).contiguous()

        def published(dcls=dcls, padded=padded, by_unit=by_unit):
            dcls.zero_grad()
            dcls(padded).backward(by_unit)

        yield Measured(f"delays up to {longest}, Dcls1d", published)


# ------------------------------------------------------------------------------------------------ EventProp


def clips(device: torch.device, of: Workload, count: int, seed: int) -> tuple[SpikeEvents, Tensor]:
    """A batch like SHD's: random events of all channels, and labels."""
    g = torch.Generator(device).manual_seed(seed)
    times = (torch.rand(count, of.events, generator=g, device=device) * of.duration).sort(1).values.flatten()
    units = torch.randint(of.inputs, (count * of.events,), generator=g, device=device)
    offsets = torch.arange(count + 1, device=device) * of.events
    labels = torch.randint(of.classes, (count,), generator=g, device=device)
    return SpikeEvents(times, units, offsets, of.inputs, of.duration), labels


class Network(nn.Module):
    """Two EventPropLIF layers with delays and a leaky readout."""

    def __init__(self, of: Workload, hidden: int, longest: float, spike_times: str) -> None:
        super().__init__()
        widths = [of.inputs, hidden, hidden]
        strong = 40.0 if of.duration < 10 else 1.0  # a few events are to fire neurons too
        self.hidden = nn.ModuleList(
            EventPropLIF(
                before, width, delay="uniform", max_delay=longest, spike_times=spike_times,
                weight_init=(0.03 * strong, 0.01) if k == 0 else (0.06 * 256 / hidden, 0.02),
            )
            for k, (before, width) in enumerate(pairwise(widths))
        )  # fmt: skip
        self.readout = EventPropLI(hidden, of.classes, readout="weighted_integral", spike_times=spike_times)

    def forward(self, events: SpikeEvents) -> tuple[Tensor, list[int]]:
        spikes = []
        for layer in self.hidden:
            events = layer(events)
            spikes.append(len(events))
        return self.readout(events), spikes


class Training:
    """Steps of one network, with Adam."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network = network.to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-5)
        self.spikes: list = []

    def step(self, inputs, labels: Tensor) -> None:
        self.optimizer.zero_grad()
        out, self.spikes = self.network(inputs)
        logits = out.softmax(-1).sum(0) if out.dim() == 3 else out
        nn.functional.cross_entropy(logits, labels).backward()
        self.optimizer.step()


def eventprop_needs(of: Workload, hidden: int, spikes: list[int]) -> tuple[float, float]:
    """Bytes and operations of a step: every synapse of every spike once forward and once back, in float64."""
    arrivals = hidden * (of.batch * of.events + spikes[0]) + of.classes * spikes[1]
    steps = of.batch * of.duration * (2 * hidden + of.classes)  # state of every neuron at every step
    return 8.0 * (2 * arrivals + 6 * steps), 2.0 * (6 * arrivals + 20 * steps)


@contextlib.contextmanager
def cudnn(enabled: bool) -> Iterator[None]:
    before, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, enabled
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before
