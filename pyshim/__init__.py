"""The thin Python driver of Tidegate: renders and migrates the SQL, and runs loops that call it.

An application needs `from pyshim import Client`, and nothing of the rest is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyshim.client import Client as Client
    from pyshim.client import Sent as Sent

__version__ = "0.1.0"
__all__ = ["Client", "Sent", "__version__"]


def __getattr__(name: str) -> object:
    """Load the client when it is asked for: a command that needs none does without."""
    if name in ("Client", "Sent"):
        from pyshim import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
