"""A registry for test_serve."""

from __future__ import annotations

from pyshim.registry import Delivery, Registry

registry = Registry()


@registry.handler("q")
async def handle(message: Delivery) -> None:
    """Nothing to do."""
