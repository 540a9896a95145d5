"""How the rows of a table look in every picture: a colour for an architecture, a line for its delays."""

import dataclasses
import json
from collections.abc import Iterator

from matplotlib.colors import to_rgb

WITHOUT, WITH = "--", "-"  # delays
MORE = ("-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # rows that differ in how their delays begin alone
OF_DELAYS = {"delays", "max_delay", "initial_delay", "delay_learning_rate", "learning_rate"}
MARKERS = {True: "o", False: "s"}


@dataclasses.dataclass(frozen=True)
class Style:
    """Of one row."""

    colour: tuple[float, float, float]
    line: str | tuple
    marker: str


def has_delays(settings: dict) -> bool:
    """Whether the network that ``settings`` build has delays."""
    if "delays" in settings:
        return settings["delays"] not in (False, None, "none")
    return settings.get("connections") != "no delays" and bool(settings.get("max_delay"))


def of_rows(recipe) -> dict[str, Style]:
    """By the row's key. Networks that differ in their size alone have shades of one colour, the largest the full one."""
    architectures: dict[str, list] = {}
    for row in recipe.rows:
        architectures.setdefault(_architecture(row), []).append(row)
    found = {}
    for colour, rows in zip(_colours(len(architectures)), architectures.values(), strict=False):
        sizes = sorted({size for row in rows if (size := _size(row)) is not None})
        taken = set()
        for row in rows:
            delayed = has_delays(recipe.network_settings | row.settings)
            size = _size(row)
            lines = iter((WITH if delayed else WITHOUT, *MORE))
            line = next(line for line in lines if (size, line) not in taken or line == MORE[-1])
            taken.add((size, line))
            pale = 0.0 if size is None else 0.65 * (1 - (sizes.index(size) + 1) / len(sizes))
            found[row.key] = Style(tuple(part + (1 - part) * pale for part in colour), line, MARKERS[delayed])
    return found


def _colours(count: int) -> Iterator[tuple[float, float, float]]:
    if count <= 10:
        yield from (to_rgb(f"C{i}") for i in range(count))
        return
    from matplotlib import colormaps

    yield from (colormaps["turbo"](0.03 + 0.94 * i / (count - 1))[:3] for i in range(count))


def _size(row) -> int | None:
    hidden = row.settings.get("hidden")
    return hidden if isinstance(hidden, int) else None


def _architecture(row) -> str:
    """What a row is but for its size and its delays."""
    settings = {
        name: value
        for name, value in {**row.data, **row.training, **row.settings}.items()
        if name not in OF_DELAYS and not (name == "hidden" and isinstance(value, int)) and value != "no delays"
    }
    return json.dumps(settings, sort_keys=True, default=str)


def largest(recipe, key: str) -> str:
    """The row of the same architecture that has the most neurons."""
    rows = {row.key: row for row in recipe.rows}
    alike = [row for row in recipe.rows if _architecture(row) == _architecture(rows[key])]
    return max(alike, key=lambda row: _size(row) or 0).key
