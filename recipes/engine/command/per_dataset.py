"""One command for the recipes of several data sets."""

import argparse
import dataclasses
from typing import Any

from ..errors import OptionError
from . import options


@dataclasses.dataclass(frozen=True)
class PerDataset:
    """One command for the recipes of several data sets, chosen by ``--dataset``; the first is the default."""

    name: str
    title: str
    parts: dict[str, Any]
    redraws = True  # `plot --json`

    @property
    def paper_used(self) -> str:
        return "\n\n".join(f"--dataset {name}\n{part.paper_used}" for name, part in self.parts.items())

    @property
    def has_energy(self) -> bool:
        return all(getattr(part, "has_energy", False) for part in self.parts.values())

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        first, *others = self.parts.values()
        parser.add_argument(
            "--dataset",
            choices=list(self.parts),
            default=next(iter(self.parts)),
            help=f"whose networks and settings (default {next(iter(self.parts))}); any data of that format will do",
        )
        first.add_options(parser, *others)

    def run(self, given: argparse.Namespace) -> int:
        return self._part(given).run(given)

    def table(self, given: argparse.Namespace) -> int:
        return self._part(given).table(given)

    def plot(self, given: argparse.Namespace) -> int:
        return self._part(given).plot(given)

    def tune(self, given: argparse.Namespace) -> int:
        part = self._part(given)
        if not hasattr(part, "tune"):
            raise OptionError(f"{self.name} shows the runs of {part.of.name}; tune that")
        return part.tune(given)

    def _part(self, given: argparse.Namespace) -> Any:
        """The recipe that was asked for. Raises :class:`OptionError` for an option of another one's data."""
        chosen = self.parts[given.dataset]
        own = options.of_source(chosen.source_of_data)
        for part in self.parts.values():
            for name, default in options.of_source(part.source_of_data).items():
                if name not in own and getattr(given, name) != default:
                    raise OptionError(f"--{name.replace('_', '-')} is not for --dataset {given.dataset}")
        return chosen
