"""What walks over the frameworks' folders: names, errors, registration, reset and skips, also of an unknown one."""

from __future__ import annotations

import ast
import importlib
import runpy
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import snn_delay_plugins
from snn_delay_plugins import frameworks, functional

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = [pytest.param(framework, id=framework.name) for framework in frameworks.installed()]
every_framework = pytest.mark.parametrize("framework", INSTALLED)
every_framework_with_states = pytest.mark.parametrize(
    "framework", [parameter for parameter in INSTALLED if parameter.values[0].step]
)

TOY = '''
"""A framework: a namespace of layers, one of neurons, and a helper."""
import types

layers, neurons = types.ModuleType("toy.layers"), types.ModuleType("toy.neurons")
import sys
sys.modules.update({"toy.layers": layers, "toy.neurons": neurons})
neurons.ToyLIF = "their own"

def forget(net):
    """Knows modules of its own alone."""
'''

FOLDER = {
    "framework.py": """
        from snn_delay_plugins.frameworks import Framework

        def _reset(net):
            for module in net.modules():
                if hasattr(module, "history"):
                    module.history = None

        def _replacements():
            import toy
            return [(toy, "forget", _reset)]

        def _conformance():
            from .parts import Conformance
            return Conformance()

        FRAMEWORK = Framework(
            name="toy", title="Toy", package="toy", minimum="0.1", layers=("DelayedLinear", "ToyDelay"),
            layer_place="toy.layers", neurons=("Toy{}",), neuron_place="toy.neurons", unplaced=frozenset({"ToyLIF"}),
            step={"one": True}, sequence={"one": False}, reset=_reset, detach=_reset, replacements=_replacements,
            conformance=_conformance,
        )
        """,
    "__init__.py": """
        from .framework import FRAMEWORK

        with FRAMEWORK.needed():
            from .parts import DelayedLinear, ToyAdLIFPlus, ToyDelay, ToyLIF, helper

        __all__ = ["DelayedLinear", "ToyAdLIFPlus", "ToyDelay", "ToyLIF", "helper"]
        """,
    "parts.py": """
        from torch import nn
        import toy

        class DelayedLinear(nn.Module): history = 1
        class ToyDelay(nn.Module): pass
        class ToyAdLIFPlus(nn.Module): pass
        class ToyLIF(nn.Module): pass
        def helper(): pass

        class Conformance:
            def owns(self, module): return isinstance(module, ToyDelay)
        """,
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A third framework: its folder beside ours, and the framework itself, installed."""
    folder = tmp_path / "ours" / "toy"
    folder.mkdir(parents=True)
    for name, source in FOLDER.items():
        (folder / name).write_text(textwrap.dedent(source))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path / "theirs"))
    monkeypatch.setattr(snn_delay_plugins, "__path__", [*snn_delay_plugins.__path__, str(tmp_path / "ours")])
    before, names = set(sys.modules), set(vars(snn_delay_plugins))
    yield next(framework for framework in frameworks.known() if framework.name == "toy")
    snn_delay_plugins.unregister()
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "toy" or name.startswith("snn_delay_plugins.toy"):
            del sys.modules[name]
    for name in set(vars(snn_delay_plugins)) - names:
        if "toy" in name.lower():
            delattr(snn_delay_plugins, name)


def test_a_third_framework_is_found_by_its_folder_and_imported_when_it_is_asked_for(toy):
    assert [framework.title for framework in frameworks.known()][:2] == ["snnTorch", "SpikingJelly"]
    assert toy in frameworks.installed()
    assert "toy" not in sys.modules and "snn_delay_plugins.toy" not in sys.modules
    assert {"toy", "ToyDelay", "ToyAdLIFPlus", "ToySiLIF"} <= set(dir(snn_delay_plugins))
    assert snn_delay_plugins.ToyDelay is importlib.import_module("snn_delay_plugins.toy.parts").ToyDelay
    assert snn_delay_plugins.toy.ToyAdLIFPlus is snn_delay_plugins.ToyAdLIFPlus


def test_threads_that_ask_at_once_find_every_framework(toy):
    description = Path(sys.modules["snn_delay_plugins.toy.framework"].__file__)
    slow = "import time\ntime.sleep(0.05)\n" + description.read_text(encoding="utf-8")
    description.write_text(slow.replace("from __future__ import annotations\n", ""), encoding="utf-8")
    del sys.modules["snn_delay_plugins.toy.framework"]
    frameworks._found.cache_clear()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: [one.name for one in frameworks.known()], range(8)))
    assert all(names[:2] == ["snntorch", "spikingjelly"] and "toy" in names for names in found)


def test_a_framework_that_is_too_old_is_left_out_of_register_with_a_warning(toy, monkeypatch):
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.9" if name == "toy" else version(name))
    with pytest.warns(UserWarning, match=r"left out by register\(\): .*toy needs Toy >= 0\.1 and 0\.0\.9 is installed"):
        names = snn_delay_plugins.register()
    assert not [name for name in names if name.startswith("toy")]
    assert [name for name in names if name.endswith(".DelayedLinear")]


def test_the_conformance_kit_knows_modules_of_a_third_framework(toy):
    from snn_delay_plugins.testing.frameworks import adapters, framework_of

    assert set(adapters()) == {framework.name for framework in frameworks.installed() if framework.conformance}
    for net in (toy.load().ToyDelay(), torch.nn.Sequential(torch.nn.Linear(2, 2), toy.load().ToyDelay())):
        assert type(framework_of(net)) is toy.load().parts.Conformance
    assert type(framework_of(torch.nn.Linear(2, 2), "toy")) is toy.load().parts.Conformance
    with pytest.raises(ValueError, match=r"one of those installed, .*toy, got 'tow'"):
        framework_of(torch.nn.Linear(2, 2), "tow")


def test_a_name_that_several_frameworks_have_stays_that_of_the_first(toy):
    if not any(framework.name == "snntorch" for framework in frameworks.installed()):
        pytest.skip("snnTorch is missing")
    assert snn_delay_plugins.DelayedLinear is snn_delay_plugins.snntorch.DelayedLinear
    assert snn_delay_plugins.toy.DelayedLinear is not snn_delay_plugins.DelayedLinear


def test_register_and_unregister_walk_over_a_third_framework(toy):
    import toy as theirs

    before = theirs.forget
    names = snn_delay_plugins.register()
    assert [name for name in names if name.startswith("toy")] == [
        "toy.neurons.ToyAdLIFPlus", "toy.layers.DelayedLinear", "toy.layers.ToyDelay",
    ]  # fmt: skip
    assert theirs.neurons.ToyLIF == "their own"
    assert theirs.layers.ToyDelay is snn_delay_plugins.ToyDelay
    net = torch.nn.Sequential(snn_delay_plugins.toy.DelayedLinear())
    net[0].history = 3
    theirs.forget(net)
    assert net[0].history is None
    snn_delay_plugins.unregister()
    assert theirs.forget is before
    assert not hasattr(theirs.layers, "ToyDelay") and not hasattr(theirs.neurons, "ToyAdLIFPlus")


def test_a_name_that_a_third_framework_turns_out_to_have_is_refused(toy, monkeypatch):
    import toy as theirs

    theirs.layers.ToyDelay = "theirs"
    with pytest.raises(
        RuntimeError, match=r"toy\.layers\.ToyDelay exists already.*snn_delay_plugins\.toy\.ToyDelay instead"
    ):
        snn_delay_plugins.register()
    assert not hasattr(theirs.neurons, "ToyAdLIFPlus")


def test_tests_of_a_third_framework_are_skipped_where_it_is_missing(toy, monkeypatch):
    conftest = runpy.run_path(str(ROOT / "conftest.py"))
    assert conftest["needed"]("from snn_delay_plugins import ToyDelay\nimport toy.layers") == [toy]
    file = Path(toy.load().__file__).parents[2] / "test_toy.py"
    file.write_text("import toy\n")
    assert conftest["absent"](file) == []
    monkeypatch.setattr(type(toy), "is_installed", lambda self: self.name != "toy")
    assert conftest["absent"](file) == ["Toy is missing: pip install 'snn_delay_plugins[toy]'"]


def test_a_missing_third_framework_is_an_import_error_with_its_extra(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "toy", None)
    assert not toy.is_installed() and toy not in frameworks.installed()
    with pytest.raises(ImportError, match=r"toy needs Toy >= 0\.1: pip install 'snn_delay_plugins\[toy\]'"):
        _ = snn_delay_plugins.ToyDelay


@pytest.mark.parametrize(
    ("version", "fits"), [("0.0.9", False), ("0.1", True), ("0.1.0rc1", True), ("1", True), ("0.10", True)]
)
def test_a_framework_that_is_too_old_is_an_import_error_with_both_versions(toy, monkeypatch, version, fits):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    if fits:
        assert toy.load().ToyDelay
        return
    with pytest.raises(ImportError, match=rf"needs Toy >= 0\.1 and {version} is installed"):
        toy.load()


@every_framework
def test_a_folder_exports_the_classes_that_its_framework_says(framework):
    assert set(framework.classes()) == set(framework.names)
    assert set(framework.layers) <= set(framework.classes())
    assert framework.unplaced <= set(framework.names)
    assert framework.step != framework.sequence or not framework.step


@every_framework_with_states
def test_reset_and_detach_of_a_framework_reach_nested_modules_of_ours(framework):
    layer = framework.load().DelayedLinear(3, 2, max_delay=4, **framework.step)
    net = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Sequential(layer)))
    x = torch.rand(5, 3)
    first = net(x).detach()
    net(x)
    framework.detach(net)
    history = [value for value in (layer.history,) if isinstance(value, torch.Tensor)]
    assert history and not history[0].requires_grad
    framework.reset(net)
    assert torch.equal(net(x), first)


@every_framework_with_states
def test_what_a_framework_calls_a_step_and_a_sequence_give_equal_currents(framework):
    make = framework.load().DelayedLinear
    stepping, whole = (make(3, 2, max_delay=4, delay=1.5, **form) for form in (framework.step, framework.sequence))
    whole.load_state_dict(stepping.state_dict())
    x = torch.rand(7, 5, 3)
    torch.testing.assert_close(torch.stack([stepping(step) for step in x]), whole(x))


@every_framework
def test_every_exported_class_can_be_imported_from_the_package(framework):
    first = {}
    for other in frameworks.known():
        first |= {name: other for name in other.names if name not in first}
    for name, value in framework.classes().items():
        if name in snn_delay_plugins.__all__:
            continue  # of no framework
        if first[name] is framework:
            assert getattr(snn_delay_plugins, name) is value


def in_a_fresh_python(code: str, absent: tuple[str, ...] = ()) -> str:
    code = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_name_of_both_frameworks_never_changes_its_meaning_with_what_is_installed():
    if len(INSTALLED) < 2:
        pytest.skip("needs two frameworks")
    import_it = """
        try:
            from snn_delay_plugins import DelayedLinear
            print(DelayedLinear.__module__)
        except ImportError as error:
            print(error)
        """
    assert in_a_fresh_python(import_it) == "snn_delay_plugins.snntorch.layer"
    told = in_a_fresh_python(import_it, absent=("snntorch",))
    assert "DelayedLinear of snn_delay_plugins is snnTorch's" in told
    assert "pip install 'snn_delay_plugins[snntorch]'" in told
    assert "SpikingJelly's: from snn_delay_plugins.spikingjelly import DelayedLinear" in told


def test_every_public_function_can_be_imported_from_functional_without_a_compiler():
    out = in_a_fresh_python(
        """
        from snn_delay_plugins import functional
        from snn_delay_plugins.functional import adlif, delayed_linear, eventprop_lif, gaussian_delayed_linear, losses
        names = {}
        exec("from snn_delay_plugins.functional import *", names)
        assert set(functional.__all__) <= set(names) and set(functional.__all__) <= set(dir(functional))
        assert callable(adlif) and names["adlif"] is adlif and losses.ease_in is names["ease_in"]
        print(sys.modules["numba"], sys.modules["triton"])
        """,
        absent=("numba", "triton", "snntorch", "spikingjelly"),
    )
    assert out == "None None"


def test_functional_lists_what_its_files_do_and_no_name_stands_for_two_things():
    listed: dict[str, object] = {}
    for name in functional._FILES:
        file = importlib.import_module(f"snn_delay_plugins.functional.{name}")
        for public in file.__all__:
            value = getattr(file, public)
            assert listed.setdefault(public, value) is value, f"{public} of {name} is something else in another file"
    assert set(listed) == set(functional.__all__)
    with pytest.raises(AttributeError, match="no attribute 'delayed_liner'"):
        _ = functional.delayed_liner


@pytest.mark.parametrize("name", ["adlif", "linear_neuron"])
def test_a_file_named_like_its_function_is_both(name):
    file = importlib.import_module(f"snn_delay_plugins.functional.{name}")
    function = getattr(functional, name)
    assert function is getattr(file, name)
    assert all(getattr(function, public) is getattr(file, public) for public in file.__all__)
    names: dict = {}
    exec(f"import snn_delay_plugins.functional.{name} as f\nfrom snn_delay_plugins.functional import {name} as g", names)
    assert names["f"] is names["g"] is function


def test_a_function_of_functional_compiles():
    def twice(x):
        return functional.adlif(x, alpha=torch.tensor(0.5))[0] * 2

    x = 4 * torch.rand(5, 2, 3)
    torch.testing.assert_close(torch.compile(twice, fullgraph=True, backend="aot_eager")(x), twice(x))


def seen_by_type_checkers(file: Path) -> set[str]:
    """Modules from which a package imports under TYPE_CHECKING."""
    blocks = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {node.module or alias.name for node in imports for alias in node.names}


def test_type_checkers_see_every_lazy_name():
    package = ROOT / "snn_delay_plugins"
    folders = {framework.name for framework in frameworks.known()}
    assert folders | set(snn_delay_plugins._SUBMODULES) <= seen_by_type_checkers(package / "__init__.py")
    assert seen_by_type_checkers(package / "functional" / "__init__.py") == set(functional._FILES)


def test_every_file_of_functional_is_public_or_known_not_to_be():
    files = {file.stem for file in (ROOT / "snn_delay_plugins" / "functional").glob("[a-z]*.py")}
    assert files - {"inputs", "eventprop_models"} == set(functional._FILES)
