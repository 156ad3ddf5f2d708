"""The sweeper's step: what it asks for, and when it asks again."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from pyshim.loops import Progress
from pyshim.retry import DeadlineExceeded
from pyshim.sweeper import Sweeper


class FakeSession:
    """Answers sweeps in turn and remembers their limits."""

    def __init__(self, *answers: tuple[int, int, int, int] | Exception) -> None:
        self.limits: list[int] = []
        self._answers = list(answers)

    async def one(self, statement: str, arguments: Mapping[str, Any]) -> Any:
        self.limits.append(arguments["limit"])
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        names = ("claimed", "dispatched", "retried", "dead_lettered")
        return SimpleNamespace(**dict(zip(names, answer, strict=True)), first_error=None)


@pytest.mark.parametrize(
    ("result", "progress"),
    [
        ((0, 0, 0, 0), Progress.NONE),
        ((9, 9, 0, 0), Progress.SOME),
        ((10, 10, 0, 0), Progress.FULL),
        ((10, 1, 9, 0), Progress.FULL),
        ((10, 0, 9, 1), Progress.NONE),
    ],
)
async def test_only_a_full_sweep_with_a_success_asks_for_more(
    result: tuple[int, int, int, int], progress: Progress
) -> None:
    assert await Sweeper(FakeSession(result), limit=10).step() is progress  # type: ignore[arg-type]


async def test_a_sweep_that_runs_out_of_time_is_followed_by_smaller_ones() -> None:
    # given sweeps that are too much until they are a quarter
    late = DeadlineExceeded("6 s")
    full = (125, 125, 0, 0)
    session = FakeSession(late, late, full, full, full)
    sweeper = Sweeper(session, limit=500)  # type: ignore[arg-type]
    # when the loop goes on
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            await sweeper.step()
    for _ in range(3):
        await sweeper.step()
    # then it halves, and grows back
    assert session.limits == [500, 250, 125, 250, 500]
