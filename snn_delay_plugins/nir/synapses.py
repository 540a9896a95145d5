r"""Weights and delays as NIR's nodes.

A layer here is a kernel over whole lags, :math:`I_i[t] = \sum_{\tau, j} K_{ij}[\tau]\, s_j[t - \tau] + b_i`. NIR's
``Delay`` holds one delay per element, so that the k-th of a few branches can take the k-th lag of every sender. No fewer
branches of Delay + Linear would do than one sender has different lags:

- before the weights: max over senders j of the number of lags of j; axonal delays: one;
- behind the weights: max over receivers i of the number of lags of i; dendritic delays: one;

and the side with fewer is taken. A branch all of whose lags are 0 has no Delay. A bias is that of the last branch's
Affine, and behind the weights, where a Delay would hold it back, of an Affine of weight 0.

Names sort in the order in which values flow, as files list nodes and nirtorch runs them.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..delayed import DelayedSynapses, DiscreteSynapses
from ..delayed_convolution import DelayedConvolution
from ..functional.windows import smoothed_kernel
from .fragment import Fragment, array, chain, parallel, single
from .needed import nir, refuse

__all__ = ["convolution", "delayed_fragment", "linear", "synaptic_kernel", "ungrouped"]


def delayed_fragment(
    where: str, layer: DelayedSynapses | DiscreteSynapses | DelayedConvolution, space: tuple[int, ...], dt: float
) -> Fragment:
    """
    :param space: the axes of space of the input of a convolution.
    """
    if layer.lengthened_by:
        refuse(where, f"{layer.lengthened_by} lengthens sequences; NIR's nodes do not")
    kernel = synaptic_kernel(layer)
    bias = None if layer.bias is None else array(layer.bias)
    if isinstance(layer, DelayedConvolution):
        return _convolutions(where, layer, kernel, bias, space, dt)
    before, behind = _lags_of(kernel, axis=1), _lags_of(kernel, axis=0)
    if _branches(before) <= _branches(behind) + (bias is not None):
        return _before_weights(where, kernel, before, bias, dt)
    return _behind_weights(where, kernel, behind, bias, dt)


def synaptic_kernel(layer: DelayedSynapses | DiscreteSynapses | DelayedConvolution) -> np.ndarray:
    """The weights over whole lags that the layer has in evaluation, ``[lags, out, in, ...]``."""
    with torch.no_grad():
        if isinstance(layer, DiscreteSynapses):
            senders = torch.repeat_interleave(layer.starts.diff())
            kernel = layer.weights.new_zeros(layer.max_delay + 1, layer.out_features, layer.in_features)
            places = (layer.delays.long(), layer.targets.long(), senders)
            return array(kernel.index_put(places, layer.weights, accumulate=True))
        rule = layer.delay_rule.in_evaluation()
        weight = layer.effective_weight() if isinstance(layer, DelayedSynapses) else layer.weight
        delay = layer.bounded("delay").to(weight.dtype).expand_as(weight)
        kernel = rule.over_lags(weight, delay, layer.max_delay, layer.rule_values(rule))
        if isinstance(layer, DelayedSynapses):
            kernel = smoothed_kernel(kernel, layer.smoothing)
        return array(cast("Tensor", kernel))


def _lags_of(kernel: np.ndarray, axis: int) -> list[np.ndarray]:
    """The lags of every element of an axis of the weights, 0: receivers, 1: senders."""
    others = tuple(i for i in range(1, kernel.ndim) if i != axis + 1)
    used = (kernel != 0).any(axis=others)
    return [np.flatnonzero(used[:, element]) for element in range(used.shape[1])]


def _branches(lags: list[np.ndarray]) -> int:
    return max(1, *(len(of) for of in lags))


def _branch(lags: list[np.ndarray], k: int) -> np.ndarray:
    """The k-th lag of every element; -1: it has no more."""
    return np.array([of[k] if k < len(of) else -1 for of in lags])


def _taps(kernel: np.ndarray, lags: np.ndarray, axis: int) -> np.ndarray:
    """The weights at these lags, one for each element of an axis."""
    moved = np.moveaxis(kernel, axis + 1, 1)  # [lags, elements, ...]
    taken = moved[np.maximum(lags, 0), np.arange(len(lags))]
    taken[lags < 0] = 0
    return np.ascontiguousarray(np.moveaxis(taken, 0, axis))


def _delay(name: str, lags: np.ndarray, dt: float, space: tuple[int, ...] = ()) -> Fragment:
    if not np.any(lags > 0):
        return Fragment()
    seconds = np.maximum(lags, 0) * dt
    return single(name, nir.Delay(np.broadcast_to(seconds.reshape(-1, *[1] * len(space)), (len(lags), *space)).copy()))


def _before_weights(
    where: str, kernel: np.ndarray, lags: list[np.ndarray], bias: np.ndarray | None, dt: float
) -> Fragment:  # fmt: skip
    parts, last = [], _branches(lags) - 1
    for k in range(last + 1):
        chosen, name = _branch(lags, k), _numbered(where, k, last)
        delay = _delay(f"{name}_delay", chosen, dt)
        named = f"{name}_weight" if delay.nodes else name
        parts.append(chain(delay, linear(named, _taps(kernel, chosen, axis=1), bias if k == last else None)))
    return parallel(parts)


def _behind_weights(
    where: str, kernel: np.ndarray, lags: list[np.ndarray], bias: np.ndarray | None, dt: float
) -> Fragment:  # fmt: skip
    parts, last = [], _branches(lags) - 1
    for k in range(last + 1):
        chosen, name = _branch(lags, k), _numbered(where, k, last)
        delay = _delay(f"{name}_weight_delay", chosen, dt)
        named = f"{name}_weight" if delay.nodes else name
        parts.append(chain(linear(named, _taps(kernel, chosen, axis=0), None), delay))
    if bias is not None and np.any(bias):
        parts.append(linear(f"{where}_bias", np.zeros_like(kernel[0]), bias))
    return parallel(parts)


def _numbered(where: str, k: int, last: int) -> str:
    return where if last == 0 else f"{where}_{k}"


def _convolutions(
    where: str, layer: DelayedConvolution, kernel: np.ndarray, bias: np.ndarray | None, space: tuple[int, ...], dt: float
) -> Fragment:  # fmt: skip
    kernel = np.stack([ungrouped(taps, layer.groups) for taps in kernel])
    lags = _lags_of(kernel, axis=1)
    parts, last = [], _branches(lags) - 1
    for k in range(last + 1):
        chosen, name = _branch(lags, k), _numbered(where, k, last)
        node = convolution(_taps(kernel, chosen, axis=1), bias if k == last else None, space, layer)
        delay = _delay(f"{name}_delay", chosen, dt, space)
        parts.append(chain(delay, single(f"{name}_weight" if delay.nodes else name, node)))
    return parallel(parts)


def ungrouped(weight: np.ndarray, groups: int) -> np.ndarray:
    """The weights of all channels to all, zero between groups: nir 1.0's types know no groups."""
    if groups == 1:
        return weight
    out, per_group = weight.shape[:2]
    whole = np.zeros((out, per_group * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * out // groups, (group + 1) * out // groups)
        whole[rows, group * per_group : (group + 1) * per_group] = weight[rows]
    return whole


def linear(name: str, weight: np.ndarray, bias: np.ndarray | None) -> Fragment:
    return single(name, nir.Linear(weight) if bias is None else nir.Affine(weight, bias))


def convolution(
    weight: np.ndarray, bias: np.ndarray | None, space: tuple[int, ...],
    of: nn.Conv1d | nn.Conv2d | DelayedConvolution,
) -> nir.NIRNode:  # fmt: skip
    """Conv1d or Conv2d. :param of: stride, padding and dilation."""
    bias = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
    if len(space) == 1:
        (stride,), (dilation,) = of.stride, of.dilation
        padding = of.padding if isinstance(of.padding, str) else of.padding[0]
        return nir.Conv1d(int(space[0]), weight, stride, padding, dilation, 1, bias)
    height, width = (int(n) for n in space)
    return nir.Conv2d((height, width), weight, _pair(of.stride), _pair(of.padding), _pair(of.dilation), 1, bias)


def _pair(value: Any) -> Any:
    return value if isinstance(value, str) else tuple(int(n) for n in value)
