"""Doctests of a part whose framework or compiler is not installed are left out; test files skip themselves, saying so."""

from importlib.util import find_spec

from hypothesis import settings

# The same examples in every run: a suite that fails does so for everybody. `--hypothesis-profile=default` draws new ones.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")

_NEEDS = {
    "snntorch": ("snn_delay_plugins/snntorch/*", "snn_delay_plugins/registration.py", "snn_delay_plugins/schedules.py"),
    "spikingjelly": ("snn_delay_plugins/spikingjelly/*", "snn_delay_plugins/registration.py"),
    "triton": ("snn_delay_plugins/kernels/*triton*",),
}


def _missing(package: str) -> bool:
    try:
        return find_spec(package) is None
    except ModuleNotFoundError:
        return True


collect_ignore_glob = [path for package, paths in _NEEDS.items() if _missing(package) for path in paths]
