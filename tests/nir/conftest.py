"""What the tests of NIR share."""

from __future__ import annotations

import pytest

pytest.importorskip("nir", reason="pip install 'snn_delay_plugins[nir]'")
pytest.importorskip("nirtorch", reason="pip install 'snn_delay_plugins[nir]'")
