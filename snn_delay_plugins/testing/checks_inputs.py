"""Inputs: views, NaN, and that they stay what they were."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .comparing import assert_equal, assert_true
from .registry import check
from .subject import Case, seeded


@check("non-contiguous", "batches come transposed out of a DataLoader, [N, T, *]")
def a_view_gives_what_its_copy_gives(case: Case) -> None:
    x = case.inputs()
    expected = case.ran(x)
    transposed = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert_equal(case.ran(transposed), expected, "a transposed view and its copy")
    wide = torch.stack((x, torch.full_like(x, 1e6)), dim=-1)
    assert_equal(case.ran(wide[..., 0]), expected, "every second value of a tensor and a copy of them")
    same = x[:, :1].expand_as(x)
    assert_equal(case.ran(same), case.ran(same.contiguous()), "an expanded tensor and its copy")


@check("input-untouched", "data sets in memory are given to the network again in the next epoch")
def the_input_stays_as_it_was(case: Case) -> None:
    x = case.inputs()
    before = x.clone()
    output = case.ran(x)
    assert_equal(x, before, "the input after the call and before it", rtol=0, atol=0)
    if output.data_ptr() == x.data_ptr() and output.numel() and case.kind == "neuron":
        raise AssertionError("the output lies in the memory of the input")


@check("output-stays", "outputs are collected step by step; a buffer that is used again rewrites them")
def an_output_stays_as_it_was_when_the_next_is_computed(case: Case) -> None:
    net, kept, copies = case.module(), [], []
    for seed in (0, 4, 5):
        kept.append(case.calls(net, case.inputs(2, seed=seed)))
        copies.append([value.clone() for value in kept[-1]])
    for values, before in zip(kept, copies, strict=True):
        for value, copy in zip(values, before, strict=True):
            assert_equal(value, copy, "an earlier output now and when it was given", rtol=0, atol=0)


@check("nan", "a spike is a comparison, and NaN compares as False: a network that diverged just falls silent")
def nan_is_refused_or_stays_to_be_seen_in_its_sample_alone(case: Case) -> None:
    x, net = case.inputs(), case.module()
    clean = case.ran(x)
    dirty = x.clone()
    dirty[2, 0] = torch.nan
    try:
        outputs = _all_outputs(case, net, dirty)
    except Exception:
        return  # refused
    if outputs[0].shape[1:2] == (x.shape[1],):
        assert_equal(outputs[0][:, 1:], clean[:, 1:], "the other samples of a batch with a NaN and without")
    seen = [value for value in (*outputs, *case.states(net).values()) if value.is_floating_point()]
    assert_true(
        any(bool(value.isnan().any()) for value in seen), "NaN went in and is seen neither in outputs nor in states"
    )


def _all_outputs(case: Case, net: nn.Module, x: Tensor) -> list[Tensor]:
    """Main outputs stacked over time, then whatever else the calls gave."""
    with torch.no_grad(), seeded(1):
        calls = [net(x)] if case.form == "sequence" else [net(step) for step in x]
    columns = [call if isinstance(call, tuple | list) else (call,) for call in calls]
    tensors = [[value for value in column if isinstance(value, Tensor)] for column in columns]
    if case.form == "sequence":
        return tensors[0]
    return [torch.stack(values) for values in zip(*tensors, strict=True)]
