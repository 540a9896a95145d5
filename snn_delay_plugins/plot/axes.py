"""The axes that a function draws into, and the options that all of them have."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypedDict

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

__all__ = ["AxesOptions", "axes_for", "legend_above", "name_places", "whole_numbers"]


class AxesOptions(TypedDict, total=False):
    """Options of every function that draws."""

    title: str
    xlabel: str
    ylabel: str
    figsize: tuple[float, float]
    """Of the figure that ``ax=None`` makes, in inches."""
    dpi: float
    """Of that figure."""


def axes_for(
    ax: Axes | None, given: AxesOptions, *, xlabel: str, ylabel: str, figsize: tuple[float, float] = (6.4, 4.0)
) -> Axes:
    """``ax``, or the axes of a new figure, with their labels.

    :param given: what the user wants instead of the further arguments.
    :raises TypeError: for an ``ax`` that is none, and options that do not exist.
    :raises ValueError: for ``figsize`` or ``dpi`` beside ``ax``.
    """
    if unknown := sorted(set(given) - set(AxesOptions.__annotations__)):
        raise TypeError(f"unknown option {unknown[0]!r}; there are {', '.join(AxesOptions.__annotations__)}")
    if ax is None:
        _, ax = plt.subplots(figsize=given.get("figsize", figsize), dpi=given.get("dpi"), layout="constrained")
    elif not isinstance(ax, Axes):
        raise TypeError(f"ax must be a matplotlib Axes or None, got {type(ax).__name__}")
    elif set(given) & {"figsize", "dpi"}:
        raise ValueError("figsize and dpi belong to the figure: leave them out where ax is given")
    ax.set(xlabel=given.get("xlabel", xlabel), ylabel=given.get("ylabel", ylabel))
    if "title" in given:
        ax.set_title(given["title"])
    return ax


def legend_above(ax: Axes, columns: int) -> None:
    """A legend between the axes and their title, over no data."""
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        fontsize="small",
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.0,
        handlelength=1.4,
        handletextpad=0.5,
    )
    if ax.get_title():
        ax.set_title(ax.get_title(), pad=24)


def whole_numbers(*axes: Axis) -> None:
    """No ticks between neurons, synapses or epochs."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(integer=True))


def name_places(ax: Axes, names: Collection[str]) -> None:
    """Names under the bars, aslant where they are long."""
    aslant = {"rotation": 35, "ha": "right", "rotation_mode": "anchor", "fontsize": "small"}
    ax.set_xticks(range(len(names)), list(names), **(aslant if max(map(len, names)) * len(names) > 30 else {}))
