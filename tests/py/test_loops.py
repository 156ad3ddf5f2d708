"""Loops: when they pause, for how long, and how they stop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pyshim import loops
from pyshim.errors import DatabaseUnavailable, NoSuchChannel
from pyshim.loops import EndOfLoop, Pace, Progress, Stop
from pyshim.meter import Meter, Watched

STEADY = Pace(interval=0.02, idle=0.1, idle_max=2.0, error=0.5, jitter=0.0)


class Recorder(Stop):
    """A stop that sleeps through no pause, notes each, and stops after so many."""

    def __init__(self, pauses: int) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._left = pauses

    async def pause(self, seconds: float, bell: loops.Bell | None = None) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) >= self._left:
            self.set()


def _steps(*answers: Progress | Exception) -> Callable[[], object]:
    left = list(answers)

    async def step() -> Progress:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return step


async def _pauses(*answers: Progress | Exception) -> list[float]:
    stop = Recorder(len(answers))
    await loops.run("test", _steps(*answers), STEADY, stop)  # type: ignore[arg-type]
    return stop.pauses


async def test_only_a_full_batch_is_followed_at_once() -> None:
    assert await _pauses(Progress.FULL, Progress.SOME) == [0.0, 0.02]


async def test_idle_pauses_double_to_their_cap_and_start_over() -> None:
    idle = [Progress.NONE] * 6
    expected = [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 0.02, 0.1]
    assert await _pauses(*idle, Progress.SOME, Progress.NONE) == pytest.approx(expected)


async def test_errors_back_off_to_thirty_two_intervals_and_success_forgives() -> None:
    lost = psycopg.OperationalError("gone")
    expected = [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 0.02, 1.0]
    assert await _pauses(*[lost] * 6, Progress.SOME, lost) == pytest.approx(expected)


async def test_pauses_are_jittered_within_their_share() -> None:
    pace = Pace.every(0.5)
    pauses = [pace.after(Progress.NONE, 1) for _ in range(200)]
    assert 0.45 <= min(pauses) < 0.47
    assert 0.53 < max(pauses) <= 0.55


async def test_a_loop_says_when_it_goes_on_again(caplog: pytest.LogCaptureFixture) -> None:
    lost = psycopg.OperationalError("gone")
    with caplog.at_level("INFO", "tidegate"):
        await _pauses(Progress.SOME, lost, lost, Progress.NONE, Progress.NONE)
    told = [each.fields for each in caplog.records if each.message == "recovered"]  # type: ignore[attr-defined]
    assert told == [{"event": "recovered", "loop": "test", "after": 2}]


async def test_a_mistake_on_the_first_step_ends_the_loop() -> None:
    with pytest.raises(NoSuchChannel):
        await _pauses(NoSuchChannel("no topic 'x'"))


async def test_a_mistake_after_a_success_is_backed_off_from() -> None:
    pauses = await _pauses(Progress.NONE, NoSuchChannel("dropped meanwhile"), Progress.NONE)
    assert pauses == pytest.approx([0.1, 1.0, 0.2])


async def test_a_stop_wakes_a_long_pause_at_once() -> None:
    # given a loop that sleeps for a minute
    stop = Stop()
    sleeper = asyncio.ensure_future(
        loops.run("test", _steps(Progress.NONE), Pace.every(60), stop)  # type: ignore[arg-type]
    )
    await asyncio.sleep(0.05)
    # when it is stopped
    started = time.monotonic()
    stop.set()
    await sleeper
    # then it is gone
    assert time.monotonic() - started < 0.2


async def test_when_one_loop_fails_the_others_end_and_the_error_is_told() -> None:
    stop = Stop()

    async def idle() -> Progress:
        return Progress.NONE

    with pytest.raises(NoSuchChannel):
        await asyncio.wait_for(
            loops.together(
                stop,
                loops.run("idle", idle, Pace.every(30), stop),
                loops.run("bad", _steps(NoSuchChannel("x")), Pace.every(30), stop),  # type: ignore[arg-type]
            ),
            2,
        )


LOOP_PROCESS = """
import asyncio, signal, sys
from pyshim import logs
from pyshim.loops import Pace, Progress, Stop, run
logs.configure()
async def step():
    print("step", signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, flush=True)
    await asyncio.sleep(float(sys.argv[1]))
    return Progress.NONE
async def main():
    stop = Stop()
    stop.on_signals()
    await run("test", step, Pace.every(60), stop)
    print("ended", flush=True)
asyncio.run(main())
"""


@contextlib.contextmanager
def _process(step_seconds: float, *, hup: Any = signal.SIG_DFL) -> Iterator[subprocess.Popen[str]]:
    """A loop within its first step; `hup` is how it is started, whoever started us."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP_PROCESS, str(step_seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=functools.partial(signal.signal, signal.SIGHUP, hup),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"step {hup is signal.SIG_IGN}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_lets_the_step_finish(number: signal.Signals) -> None:
    with _process(0.5) as process:
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert (out, process.returncode) == ("ended\n", 0)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_the_process_in_the_middle_of_a_step(number: signal.Signals) -> None:
    with _process(600) as process:
        process.send_signal(number)
        # the first one's line says what the second one does, which has no time for a line
        told = f'event=stopping signal={number.name} note="a second signal ends it at once"\n'
        assert told in _line(process)
        assert process.poll() is None
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert (out, process.returncode) == ("", -number)


def test_who_ignores_the_end_of_the_terminal_goes_on() -> None:
    with _process(600, hup=signal.SIG_IGN) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert "signal=SIGTERM" in _line(process)


async def test_a_database_that_is_down_ends_the_first_step_and_is_waited_for_later() -> None:
    down = DatabaseUnavailable("after three attempts")
    with pytest.raises(DatabaseUnavailable):
        await _pauses(down)
    assert await _pauses(Progress.SOME, down, Progress.SOME) == pytest.approx([0.02, 1.0, 0.02])


async def test_beside_others_only_a_mistake_on_the_first_step_ends_a_loop() -> None:
    pace = Pace(interval=0, idle=0, idle_max=0, error=0)

    async def run(*errors: Exception) -> int:
        """How many steps a loop took that met these, and then stopped by itself."""
        stop, left = Stop(), list(errors)

        async def step() -> Progress:
            if left:
                raise left.pop(0)
            stop.set()
            return Progress.NONE

        await loops.run("t", step, pace, stop, in_company=True)
        return len(errors)

    mistake = psycopg.errors.UndefinedFunction("no such function")
    # the database is known to be there: that it is away now is backed off from
    assert await run(DatabaseUnavailable("gone"), DatabaseUnavailable("gone")) == 2
    # and so is a mistake that shows later, as that of a relay whose broker was away before
    assert await run(ConnectionError("the broker is away"), mistake) == 2
    with pytest.raises(psycopg.errors.UndefinedFunction):
        await run(mistake)


async def test_only_a_loop_whose_server_is_away_is_healthy_without_progress() -> None:
    for error, healthy in ((psycopg.errors.AdminShutdown(), True), (ValueError(), False)):
        meter, stop = Meter(), Recorder(2)
        meter.watch("test", 60)
        steps = _steps(Progress.NONE, error)
        (watched,) = meter._watched.values()

        async def step(steps: Callable[[], object] = steps, watched: Watched = watched) -> Progress:
            try:
                return await steps()  # type: ignore[no-any-return, misc]
            finally:
                watched.progress_at -= 61

        await loops.run("test", step, STEADY, stop, meter)
        assert (meter.stale() == []) is healthy


async def test_beside_others_a_loop_that_can_never_go_on_ends_them_all() -> None:
    for in_company in (False, True):
        step = _steps(EndOfLoop("nobody reads"))
        running = loops.run("test", step, STEADY, Stop(), in_company=in_company)  # type: ignore[arg-type]
        if in_company:
            with pytest.raises(EndOfLoop):
                await running
        else:
            await running
