"""Doctests of a part whose framework is not installed are left out; the test files skip themselves, saying so."""
from importlib.util import find_spec

_NEEDS = {
    "snntorch": ("snn_delay_plugins/snntorch/*", "snn_delay_plugins/registration.py"),
    "spikingjelly": ("snn_delay_plugins/spikingjelly/*", "snn_delay_plugins/registration.py"),
}


def _missing(framework: str) -> bool:
    try:
        return find_spec(framework) is None
    except ModuleNotFoundError:
        return True


collect_ignore_glob = [path for framework, paths in _NEEDS.items() if _missing(framework) for path in paths]
