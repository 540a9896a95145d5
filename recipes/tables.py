"""Every table of networks by its name, which a finished run gives as its recipe's; imported when it is asked for."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from .engine.command.per_dataset import PerDataset
from .engine.command.recipe import TableRecipe
from .engine.command.view import View


class _Tables(Mapping):
    """The name of a table is that of the file that defines it, alone or with that of a data set behind it."""

    def __getitem__(self, name: str) -> TableRecipe:
        for module in self._modules():
            if name == module or name.startswith(f"{module}_"):
                for table in _tables_of(_recipe(module)):
                    if table.name == name:
                        return table
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        found = (table.name for module in self._modules() for table in _tables_of(_recipe(module)))
        return iter(dict.fromkeys(found))

    def __len__(self) -> int:
        return len(list(iter(self)))

    @staticmethod
    def _modules() -> list[str]:
        from .__main__ import titles

        return list(titles())


def _recipe(module: str) -> Any:
    return importlib.import_module(f".{module}", __package__).RECIPE


def _tables_of(recipe: Any) -> Iterator[TableRecipe]:
    """The tables whose runs a recipe trains."""
    if isinstance(recipe, TableRecipe):
        yield recipe
    elif isinstance(recipe, View):
        yield recipe.of
    elif isinstance(recipe, PerDataset):
        for part in recipe.parts.values():
            yield from _tables_of(part)


TABLES = _Tables()
