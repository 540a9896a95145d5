"""Data-parallel training on two processes, asked once for all checks and forms of a plug-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .comparing import assert_equal, assert_true
from .derivatives import weighted
from .processes import RANKS, pair
from .registry import NotApplicable, check
from .subject import Case, Subject


def _begin() -> None:
    """The two processes import what they need while other checks run."""
    if dist.is_available() and dist.is_gloo_available():
        pair()


@check("ddp-gradients", "gradients are averaged, and replicas that drift apart are two networks", ahead=_begin)
def data_parallel_training_averages_gradients_and_keeps_replicas_equal(case: Case) -> None:
    _raise_what_happened(case, "gradients")


@check(
    "ddp-states",
    "DistributedDataParallel sends the buffers of rank 0 to every other before each forward pass",
    ahead=_begin,
)
def each_process_of_data_parallel_training_keeps_its_own_states(case: Case) -> None:
    case.needs_states()
    _raise_what_happened(case, "states")


class _OverTime(nn.Module):
    """The module behind a trainable gain (a wrapper without parameters is refused), over a whole window per call."""

    def __init__(self, case: Case, frozen: bool = False) -> None:
        super().__init__()
        self.case, self.module, self.frozen = case, case.module().requires_grad_(not frozen), frozen
        self.gain = nn.Parameter(torch.ones((), dtype=case.dtype))

    def forward(self, x: Tensor) -> Tensor:
        if not self.frozen:
            return self.case.run(self.module, x * self.gain)
        with torch.no_grad():
            output = self.case.run(self.module, x)
        return output + 0 * self.gain


def _gradients(case: Case, rank: int) -> None:
    x = case.inputs(batch=2 * RANKS)
    net = DistributedDataParallel(_OverTime(case), broadcast_buffers=False)
    output = net(x[:, rank::RANKS])
    if not output.requires_grad:
        raise NotApplicable("its output has no gradient")
    weighted(output).backward()
    expected = []
    for other in range(RANKS):
        plain = _OverTime(case)
        weighted(plain(x[:, other::RANKS])).backward()
        expected.append({name: parameter.grad for name, parameter in plain.named_parameters()})
    found = {name: parameter.grad for name, parameter in net.module.named_parameters()}
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    replicas = {}
    for name, parameter in net.module.named_parameters():
        replicas[name] = [torch.empty_like(parameter) for _ in range(RANKS)]
        dist.all_gather(replicas[name], parameter.detach())
    for name, gradient in found.items():
        each = [gradients[name] for gradients in expected]
        if gradient is not None and all(one is not None for one in each):
            assert_equal(gradient, torch.stack(each).mean(0), f"the gradients of {name}, averaged and from the two alone")
    for name, both in replicas.items():
        assert_true(torch.equal(*both), f"{name} differs between the two processes after a step of the optimizer")


def _states(case: Case, rank: int) -> None:
    alone, wrapped = _OverTime(case, frozen=True), DistributedDataParallel(_OverTime(case, frozen=True))
    windows = case.inputs(12, 2 * RANKS)[:, rank::RANKS].split(4)
    outputs = []
    for net in (alone, wrapped):
        outputs.append([])
        for window in windows:
            output = net(window)
            output.sum().backward()  # buffers are sent around in training alone
            outputs[-1].append(output.detach())
    one, two = (torch.cat(each) for each in outputs)
    assert_equal(two, one, "windows of a stream with DistributedDataParallel and without")


SCENES: dict[str, Callable[[Case, int], None]] = {"gradients": _gradients, "states": _states}


def _raise_what_happened(case: Case, scene: str) -> None:
    subject = case.subject
    if "_answers" not in vars(subject):
        vars(subject)["_answers"] = _answers(subject)
    for rank, answer in enumerate(vars(subject)["_answers"]):
        if isinstance(answer, str):
            raise RuntimeError(f"process {rank} {answer}")
        said = answer.get((case.form, scene), NotApplicable("did not come that far"))
        if isinstance(said, NotApplicable):
            raise NotApplicable("its output has no gradient" if scene == "gradients" else "ddp-gradients failed before")
        assert_true(said is None, f"process {rank}: {said}")


def _answers(subject: Subject) -> list[dict | str]:
    if not dist.is_available() or not dist.is_gloo_available():
        raise NotApplicable("this torch has no gloo")
    plugin = replace(subject.plugin, reset=None, detach=None, expected_failures={}, kind=subject.kind, shape=subject.shape)
    return pair().ask(plugin)
