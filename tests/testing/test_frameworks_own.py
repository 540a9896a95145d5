"""The frameworks' own modules hold what the documentation says, and fail where it says so."""

from __future__ import annotations

import pytest

pytest.importorskip("snntorch.surrogate", reason="snnTorch is missing: pip install 'snn_delay_plugins[snntorch]'")
pytest.importorskip(
    "spikingjelly.activation_based", reason="SpikingJelly is missing: pip install 'snn_delay_plugins[spikingjelly]'"
)

from snn_delay_plugins.testing import parametrize_with_checks

from .frameworks_own import IN_THE_SUITE, PLUGINS


@parametrize_with_checks({name: PLUGINS[name] for name in IN_THE_SUITE}, without=["compile"])
def test_the_frameworks_own(check):
    check()
