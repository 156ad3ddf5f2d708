"""The thin Python driver of Tidegate: renders and migrates the SQL, and runs loops that call it.

An application needs `from pyshim import Client`, a worker `from pyshim import Registry`; nothing of
the rest is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyshim.client import Client as Client
    from pyshim.client import Sent as Sent
    from pyshim.registry import Delivery as Delivery
    from pyshim.registry import Malformed as Malformed
    from pyshim.registry import Registry as Registry
    from pyshim.registry import Reject as Reject
    from pyshim.registry import Retry as Retry

__version__ = "0.1.0"
_HOMES = {
    "Client": "client", "Sent": "client", "Delivery": "registry", "Malformed": "registry",
    "Registry": "registry", "Reject": "registry", "Retry": "registry",
}  # fmt: skip
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> object:
    """Load what is asked for: a command that needs none of it does without."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"pyshim.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
