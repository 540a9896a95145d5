"""What importing the package touches, and what is said where a framework is missing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Python that makes some modules impossible to import, as if they were not installed
BLOCK = """
import sys
class Blocker:
    def __init__(self, names): self.names = names
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker({names!r}))
"""


def python(code: str, blocked: tuple[str, ...] = ()) -> str:
    """Run ``code`` in a fresh interpreter and return what it prints."""
    code = BLOCK.replace("{names!r}", repr(set(blocked))) + code if blocked else code
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_but_itself():
    new = python(
        "import sys, importlib; before = set(sys.modules); import snn_delay_plugins\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    assert new == "['snn_delay_plugins']"


def test_the_functional_core_needs_neither_framework_nor_numba():
    out = python(
        "import torch, snn_delay_plugins\n"
        "from snn_delay_plugins import functional, parameters\n"
        "import snn_delay_plugins.functional.adlif as f, snn_delay_plugins.functional.delay as d\n"
        "from snn_delay_plugins.functional.surrogate import Boxcar\n"
        "spikes, _ = f.adlif(torch.full((5, 1, 1), 3.0), alpha=torch.tensor(0.5), method='torch')\n"
        "print(spikes.sum().item() > 0, d.delayed_linear(spikes, torch.ones(1, 1), torch.ones(1, 1)).shape)",
        blocked=("snntorch", "spikingjelly", "numba", "torchvision", "torchaudio", "h5py", "lightning"),
    )
    assert out == "True torch.Size([5, 1, 1])"


@pytest.mark.parametrize("how", ["blocked", "none in sys.modules"])
@pytest.mark.parametrize(
    ("framework", "name"),
    [("snntorch", "AdLIFPlus"), ("snntorch", "StateAdLIFPlus"), ("snntorch", "snntorch"),
     ("spikingjelly", "AdLIFPlusNode"), ("spikingjelly", "spikingjelly")],
)  # fmt: skip
def test_a_missing_framework_is_an_import_error_that_names_the_extra(framework, name, how):
    message = python(
        (f"import sys; sys.modules[{framework!r}] = None\n" if how != "blocked" else "")
        + f"try:\n    from snn_delay_plugins import {name}\nexcept ImportError as error:\n    print(error)",
        blocked=(framework,) if how == "blocked" else (),
    )
    assert f"pip install 'snn_delay_plugins[{framework}]'" in message


def test_a_framework_that_cannot_import_its_own_parts_is_not_called_missing():
    pytest.importorskip("snntorch.surrogate")
    message = python(
        "import sys, importlib.abc, importlib.machinery\n"
        "class Broken(importlib.abc.Loader):\n"
        "    def create_module(self, spec): return None\n"
        "    def exec_module(self, module): import a_module_that_nobody_has\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'snntorch': return importlib.machinery.ModuleSpec(name, Broken(), is_package=True)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "try:\n    from snn_delay_plugins import AdLIFPlus\nexcept ImportError as error:\n    print(error)"
    )
    assert "a_module_that_nobody_has" in message
    assert "pip install" not in message


def test_register_without_any_framework_names_both_extras():
    message = python(
        "import snn_delay_plugins\n"
        "import importlib.util; importlib.util.find_spec = lambda name: None\n"
        "try:\n    snn_delay_plugins.register()\nexcept ImportError as error:\n    print(error)"
    )
    assert "snn_delay_plugins[snntorch]" in message
    assert "snn_delay_plugins[spikingjelly]" in message


@pytest.mark.parametrize("framework", ["snntorch", "spikingjelly"])
def test_one_framework_is_enough_and_register_serves_it(framework):
    pytest.importorskip({"snntorch": "snntorch.surrogate", "spikingjelly": "spikingjelly.activation_based"}[framework])
    other = {"snntorch": "spikingjelly", "spikingjelly": "snntorch"}[framework]
    out = python(
        "import importlib.util; find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name == {other!r} else find(name)\n"
        "import snn_delay_plugins; print(all(name.startswith(FRAMEWORK) for name in snn_delay_plugins.register()))".replace(
            "FRAMEWORK", repr(framework)
        ),
        blocked=(other,),
    )
    assert out == "True"


def test_public_names_are_listed_and_an_unknown_one_is_an_attribute_error():
    import snn_delay_plugins

    assert {"AdLIFPlus", "AdLIFPlusNode", "register", "unregister", "functional"} <= set(dir(snn_delay_plugins))
    with pytest.raises(AttributeError, match="no attribute 'AdLIFMinus'"):
        _ = snn_delay_plugins.AdLIFMinus


def framework_of(module: str) -> str | None:
    found = re.match(r"(snn_delay_plugins\.)?(snntorch|spikingjelly)\b", module)
    return found[2] if found else None


def imported_frameworks(tree: ast.Module):
    """(line, framework) of every import at the top of a file."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "snn_delay_plugins":
            modules = [f"snn_delay_plugins.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module]
        else:
            continue
        yield from ((node.lineno, framework) for module in modules if (framework := framework_of(module)))


def test_files_of_tests_skip_themselves_before_they_import_a_framework_that_may_be_absent():
    files = [f for f in (ROOT / "tests").rglob("test_*.py") if "recipes" not in f.parts]  # those: their conftest.py
    assert len(files) > 20
    bare = []
    for file in files:
        text = file.read_text()
        lines = text.splitlines()
        for line, framework in imported_frameworks(ast.parse(text)):
            before = "\n".join(lines[: line - 1])
            if not re.search(rf"^pytest\.importorskip\(\s*\"{framework}\.", before, re.MULTILINE):
                bare.append(f"{file.name}:{line} imports {framework}")
    assert bare == []


def test_doctests_that_need_a_framework_or_a_compiler_are_left_out_where_it_is_absent():
    import runpy

    needs = runpy.run_path(str(ROOT / "conftest.py"))["_NEEDS"]
    for file in (ROOT / "snn_delay_plugins").rglob("*.py"):
        examples = "\n".join(line for line in file.read_text().splitlines() if line.lstrip().startswith(">>>"))
        wanted = {f for f in ("snntorch", "spikingjelly") if re.search(rf"(from|import) [\w., ]*\b{f}\b", examples)}
        for framework in wanted:
            assert any(file.match(pattern) for pattern in needs[framework]), f"{file}: {framework}"
