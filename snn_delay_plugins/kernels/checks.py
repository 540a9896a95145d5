"""What the operators refuse before a compiled loop reads or writes anything.

Loops are compiled without checks of their own, and an operator can be called with any tensors: by ``torch.ops``, through
a state dict, through a list of events that somebody changed. So every operator checks first, on every device, that all
sizes, dtypes and devices follow from its first tensor, and that indices and delays lie where they point to.
"""

from __future__ import annotations

import os
from functools import cache

import torch
from torch import Tensor

__all__ = [
    "FLOATS", "LONGEST", "check_indices", "check_kind", "check_offsets", "check_room", "check_size", "check_synapse_list",
    "check_tensor", "check_windows",
]  # fmt: skip

FLOATS = (torch.float32, torch.float64)
LONGEST = (1 << 31) - 1
"""The longest delay that an int32 can hold."""


def check_tensor(
    name: str, tensor: Tensor, shape: tuple[int | None, ...], dtypes: tuple[torch.dtype, ...], device: torch.device
) -> None:
    """
    :param shape: ``None`` for a size that may be anything.
    :raises TypeError: for another dtype, or a tensor that is not dense. :raises ValueError: for another shape or device.
    """
    if tensor.dtype not in dtypes or tensor.layout is not torch.strided:
        layout = "" if tensor.layout is torch.strided else f" ({tensor.layout})"
        raise TypeError(f"{name} must be {' or '.join(map(str, dtypes))}, got {tensor.dtype}{layout}")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device} but the first tensor on {device}; move one of them")
    sizes = tensor.shape
    if sizes != shape and (
        len(sizes) != len(shape) or any(want is not None and size != want for size, want in zip(sizes, shape, strict=True))
    ):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must be [{wanted}], got shape {tuple(tensor.shape)}")


def check_indices(name: str, indices: Tensor, count: int, what: str) -> None:
    """
    :raises ValueError: unless all are in ``[0, count)``; ``what`` is the name of ``count``.
    """
    if not indices.numel():
        return
    low, high = torch.stack(indices.aminmax()).tolist()  # one look at a device
    if low < 0 or high >= count:
        k = int(((indices.long() < 0) | (indices.long() >= count)).nonzero()[0])
        raise ValueError(f"{name}[{k}] = {int(indices[k])} is outside [0, {what} = {count})")


def check_kind(name: str, value: str, known: tuple[str, ...]) -> None:
    """
    :raises ValueError: for a value that is not known.
    """
    if value not in known:
        raise ValueError(f"{name} must be one of {known}, got {value!r}")


def check_size(name: str, value: int) -> None:
    """
    :raises ValueError: for a negative number.
    """
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


def check_room(what: str, size: int) -> None:
    """
    :raises ValueError: for arrays of more bytes than the machine has memory, which the system would end the process for.
    """
    if size > memory():
        raise ValueError(f"{what} would take {size / 2**30:.3g} GiB; this machine has {memory() / 2**30:.3g} GiB")


@cache
def memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return 1 << 40


# ------------------------------------------------------------------------------------------------- lists of synapses


def check_synapse_list(
    starts: Tensor, targets: Tensor, delays: Tensor, weights: Tensor, out_features: int, longest: int = LONGEST
) -> None:
    """Synapses by sender, those of sender j at ``starts[j] : starts[j + 1]``.

    :param longest: the longest delay there may be.
    :raises TypeError: for other dtypes than ``starts`` int64, ``targets`` and ``delays`` int32.
    :raises ValueError: for sizes that do not fit, ``starts`` that do not rise from 0 to the number of synapses, a target
        that is no receiver, a delay that is negative or too long.
    """
    count, device = weights.numel(), weights.device
    check_tensor("starts", starts, (None,), (torch.int64,), device)
    for name, values in {"targets": targets, "delays": delays}.items():
        check_tensor(name, values, (count,), (torch.int32,), device)
    check_synapse_indices(starts, targets, delays, out_features, longest)


def check_synapse_indices(starts: Tensor, targets: Tensor, delays: Tensor, out_features: int, longest: int) -> None:
    """The values alone, of whole numbers of any dtype.

    :raises ValueError: as :func:`check_synapse_list`.
    """
    check_offsets("starts", starts, targets.numel(), "the number of synapses")
    check_indices("targets", targets, out_features, "out_features")
    check_indices("delays", delays, longest + 1, "max_delay + 1")


def check_offsets(name: str, offsets: Tensor, count: int, what: str) -> None:
    """
    :raises ValueError: unless they rise from 0 to ``count``, which is ``what``.
    """
    if not offsets.numel():
        raise ValueError(f"{name} must have at least one entry, got none")
    if offsets.device.type == "cpu":  # numpy's calls cost less
        array = offsets.numpy()
        first, last, fall = int(array[0]), int(array[-1]), bool((array[1:] < array[:-1]).any())
    else:
        first, last, fall = torch.stack((offsets[0], offsets[-1], (offsets[1:] < offsets[:-1]).any())).tolist()
    if first or last != count:
        raise ValueError(f"{name} must rise from 0 to {what}, {count}, but run from {first} to {last}")
    if fall:
        k = int((offsets[1:] < offsets[:-1]).nonzero()[0]) + 1
        raise ValueError(
            f"{name} must rise from 0 to {what}, {count}, but {name}[{k}] = {int(offsets[k])} comes after "
            f"{int(offsets[k - 1])}"
        )


def check_windows(
    kernel: Tensor, lag: Tensor, senders: Tensor, receivers: Tensor, in_features: int, out_features: int
) -> None:
    """Synapses by receiver, each with a window of taps ``kernel`` ``[synapses, width]``.

    :raises TypeError: for indices that are not int64.
    :raises ValueError: for sizes that do not fit, a negative lag, a sender or receiver that is not there, or another order.
    """
    for name, indices in {"lag": lag, "senders": senders, "receivers": receivers}.items():
        check_tensor(name, indices, (kernel.shape[0],), (torch.int64,), kernel.device)
    check_indices("senders", senders, in_features, "the number of inputs")
    check_indices("receivers", receivers, out_features, "out_features")
    if lag.numel() and (least := int(lag.min())) < 0:
        raise ValueError(f"lags must not be negative, got {least}")
    falls = receivers[1:] < receivers[:-1]
    if falls.any():
        k = int(falls.nonzero()[0]) + 1
        raise ValueError(
            f"synapses must be ordered by receiver, but receivers[{k}] = {int(receivers[k])} comes after "
            f"{int(receivers[k - 1])}"
        )
