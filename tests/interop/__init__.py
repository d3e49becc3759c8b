"""Real clients against both engines, over a socat pty pair that stands in for the adapter."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.wait")
