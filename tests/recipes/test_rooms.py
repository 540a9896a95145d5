"""The rooms of the recipes' engine: an import only goes down, and there is no circle."""

import ast
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"
FLOORS = ("files", "data", "training", "results", "command")  # from the ground up
GROUND = ("errors", "stopping")  # of nobody, for everybody


def parts_of(file: Path) -> tuple[str, ...]:
    """("recipes", "engine", "data", "sources")."""
    return file.relative_to(RECIPES.parent).with_suffix("").parts


MODULES = {parts_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in sorted(RECIPES.rglob("*.py"))}


def imported(module: tuple[str, ...], nodes) -> set[tuple[str, ...]]:
    """The modules of the recipes that these statements of ``module`` import; packages that hold nothing are left out."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            package = ".".join(module[:-1])
            whole = tuple(resolve_name("." * node.level + (node.module or ""), package).split("."))
            found |= {(*whole, name.name) if (*whole, name.name) in MODULES else whole for name in node.names}
    return {name for name in found if name in MODULES}


def floor_of(module: tuple[str, ...]) -> int:
    """0 for the ground, then the rooms of the engine, then what lies beside the recipes of a paper, then the recipes."""
    if module[:2] != ("recipes", "engine"):
        return len(FLOORS) + (2 if len(module) == 2 else 1)
    return 0 if module[2] in (*GROUND, "__init__") else 1 + FLOORS.index(module[2])


def test_every_module_of_the_engine_lies_in_a_room():
    inside = [module for module in MODULES if module[:2] == ("recipes", "engine")]
    assert len(inside) > 40 and {module[2] for module in inside} == {*FLOORS, *GROUND, "__init__"}


def test_an_import_only_goes_down():
    wrong = []
    for module, tree in MODULES.items():
        for other in imported(module, ast.walk(tree)):
            of_another_paper = floor_of(module) == floor_of(other) == len(FLOORS) + 1 and module[1] != other[1]
            if floor_of(other) > floor_of(module) or of_another_paper:
                wrong.append(f"{'.'.join(module)} imports {'.'.join(other)}")
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: imported(module, tree.body) for module, tree in MODULES.items()}
    assert sum(map(len, graph.values())) > 150
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_module_says_under_which_name_the_recipes_are_installed():
    wrong = []
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            named = [name for name in names if f"{name}.".startswith(("recipes.", "snn_delay_plugins.recipes."))]
            wrong += [f"{'.'.join(module)}, line {node.lineno}: {name}" for name in named]
    assert wrong == []
