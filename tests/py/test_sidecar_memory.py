"""A sidecar under load stays as large as it is; bench/sidecar.py looks for ten minutes."""

from __future__ import annotations

import pytest

from bench.relay import server
from bench.sidecar import MOST_GROWTH_MB, MOST_MB, REDIS, measure

pytestmark = pytest.mark.heavy


def test_a_sidecar_does_not_grow_under_load(database: str) -> None:
    with server(*REDIS) as port:
        target = f"redis://127.0.0.1:{port}/0?stream=s&maxlen=1000"
        found = measure(database, target, 60, 500)
    assert found.swept > 1000 and found.relayed > 1000
    assert found.most < MOST_MB
    assert found.growth < MOST_GROWTH_MB, found.samples
