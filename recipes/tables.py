"""Every table of networks by its name, which a finished run gives as its recipe's; imported when it is asked for."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from .engine.command.per_dataset import PerDataset
from .engine.command.recipe import TableRecipe
from .engine.command.view import View


class _Tables(Mapping):
    """By name of the table; that of a recipe for several data sets begins with the recipe's."""

    def __getitem__(self, name: str) -> TableRecipe:
        for module in self._modules():
            if name == module or name.startswith(f"{module}_"):
                for table in _tables_of(importlib.import_module(f".{module}", __package__).RECIPE):
                    if table.name == name:
                        return table
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        for module in self._modules():
            yield from (table.name for table in _tables_of(importlib.import_module(f".{module}", __package__).RECIPE))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @staticmethod
    def _modules() -> list[str]:
        from .__main__ import titles

        return list(titles())


def _tables_of(recipe: Any) -> Iterator[TableRecipe]:
    """The tables that a recipe trains."""
    if isinstance(recipe, TableRecipe):
        yield recipe
    elif isinstance(recipe, PerDataset):
        for part in recipe.parts.values():
            yield from _tables_of(part)
    elif isinstance(recipe, View):
        yield from ()


TABLES = _Tables()
