"""Doctests of a part whose framework is not installed are left out; the test files skip themselves, saying so."""
from importlib.util import find_spec

from hypothesis import settings

# The same examples in every run: a suite that fails does so for everybody. `--hypothesis-profile=default` draws new ones.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")

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
