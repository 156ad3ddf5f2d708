"""How much a loop asks for at once."""

from __future__ import annotations


class Batch:
    """A limit that halves when a batch did not fit into its time, and doubles back while batches
    do."""

    def __init__(self, limit: int) -> None:
        self.most = limit
        self.limit = limit

    def fits(self) -> None:
        """The last batch was done in time."""
        self.limit = min(self.most, self.limit * 2)

    def too_much(self) -> None:
        """The last batch was not: ask for half, at least one."""
        self.limit = max(1, self.limit // 2)
