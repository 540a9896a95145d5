"""What importing the package touches, and what is said where a framework is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from snn_delay_plugins import frameworks

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


def python(code: str, blocked: tuple[str, ...] = (), fails: int = 0) -> str:
    """Run ``code`` in a fresh interpreter, which ends with the status ``fails``, and return what it prints."""
    code = BLOCK.replace("{names!r}", repr(set(blocked))) + code if blocked else code
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == fails, done.stdout + done.stderr
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
        "import sys, torch, snn_delay_plugins\n"
        "from snn_delay_plugins import functional, parameters\n"
        "import snn_delay_plugins.functional.adlif as f, snn_delay_plugins.functional.delay as d\n"
        "from snn_delay_plugins.functional.surrogate import Boxcar\n"
        "spikes, _ = f.adlif(torch.full((5, 1, 1), 3.0), alpha=torch.tensor(0.5), method='torch')\n"
        "print(spikes.sum().item() > 0, d.delayed_linear(spikes, torch.ones(1, 1), torch.ones(1, 1)).shape)\n"
        "print({'torch._dynamo', 'triton'} & set(sys.modules))",  # the compilers, slower to import than torch itself
        blocked=("snntorch", "spikingjelly", "numba", "torchvision", "torchaudio", "h5py", "lightning"),
    )
    assert out == "True torch.Size([5, 1, 1])\nset()"


def test_functions_are_marked_as_constant_in_the_way_of_torch_compile():
    import torch

    from snn_delay_plugins import transforms

    def theirs(): ...

    torch.compiler.assume_constant_result(theirs)
    assert vars(theirs)
    for ours in (transforms.transform, transforms.vectorised, transforms._only_vmap):
        assert vars(ours) == vars(theirs)


@pytest.mark.parametrize("how", ["blocked", "none in sys.modules"])
@pytest.mark.parametrize(
    ("framework", "names"),
    [("snntorch", ("AdLIFPlus", "StateAdLIFPlus", "snntorch")), ("spikingjelly", ("AdLIFPlusNode", "spikingjelly"))],
)
def test_a_missing_framework_is_an_import_error_that_names_the_extra(framework, names, how):
    messages = python(
        (f"import sys; sys.modules[{framework!r}] = None\n" if how != "blocked" else "")
        + "".join(
            f"try:\n    from snn_delay_plugins import {name}\nexcept ImportError as error:\n    print(error)\n"
            for name in names
        ),
        blocked=(framework,) if how == "blocked" else (),
    ).splitlines()
    assert len(messages) == len(names)
    assert all(f"pip install 'snn_delay_plugins[{framework}]'" in message for message in messages)


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
    others = tuple(each.package.partition(".")[0] for each in frameworks.known() if each.name != framework)
    out = python(
        "import importlib.util; find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name in {others!r} else find(name)\n"
        "import snn_delay_plugins; print(all(name.startswith(FRAMEWORK) for name in snn_delay_plugins.register()))".replace(
            "FRAMEWORK", repr(framework)
        ),
        blocked=others,
    )
    assert out == "True"


def test_public_names_are_listed_and_an_unknown_one_is_an_attribute_error():
    import snn_delay_plugins

    assert {"AdLIFPlus", "AdLIFPlusNode", "register", "unregister", "functional", "delays", "testing"} <= set(
        dir(snn_delay_plugins)
    )
    with pytest.raises(AttributeError, match="no attribute 'AdLIFMinus'"):
        _ = snn_delay_plugins.AdLIFMinus


@pytest.mark.parametrize("name", ["delays", "schedules", "testing"])
def test_public_modules_are_attributes_of_the_package_without_an_import_of_their_own(name):
    code = f"import snn_delay_plugins; assert snn_delay_plugins.{name}.__name__ == 'snn_delay_plugins.{name}'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_test_file_that_imports_an_absent_framework_is_skipped_with_the_reason():
    out = python(
        "import pytest, sys; options = ['-q', '-rs', '-p', 'no:cacheprovider']\n"
        "files = ['tests/spikingjelly/test_spikingjelly_counters.py', 'snn_delay_plugins/spikingjelly']\n"
        "sys.exit(pytest.main([*options, *files]))",
        blocked=("spikingjelly",),
        fails=5,  # nothing was collected
    )
    assert "SpikingJelly is missing: pip install 'snn_delay_plugins[spikingjelly]'" in out


def test_what_a_file_needs_is_read_from_its_imports():
    import runpy

    conftest = runpy.run_path(str(ROOT / "conftest.py"))

    def needs(source: str) -> list[str]:
        return [framework.name for framework in conftest["needed"](source)]

    assert needs("import snntorch as snn") == needs("from snntorch import utils") == ["snntorch"]
    assert needs("from spikingjelly.activation_based import layer") == ["spikingjelly"]
    assert needs("import snn_delay_plugins.spikingjelly") == ["spikingjelly"]
    assert needs("from snn_delay_plugins import snntorch, AdLIFPlusNode") == ["snntorch", "spikingjelly"]
    assert needs("from snn_delay_plugins import DelayedLinear") == ["snntorch"]
    assert needs("from snn_delay_plugins import EventPropLIF, functional, SpikeEvents\nimport torch") == []
    assert needs("def test():\n    import snntorch\nif 1:\n    import spikingjelly") == []
    assert needs(conftest["examples"]('    """\n    >>> from snntorch import utils\n    >>> x = 1\n    """')) == [
        "snntorch"
    ]
