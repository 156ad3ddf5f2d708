"""Processes of the command that are killed at random, and what they printed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Herd:
    """Processes of the command, each restarted as soon as it is killed."""

    def __init__(self, database: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._environment = {
            **os.environ,
            "TIDEGATE_DATABASE_URL": database,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self._started = 0
        self.members: list[tuple[tuple[str, ...], subprocess.Popen[bytes]]] = []

    def start(self, *words: str) -> None:
        """One more; what it prints goes into a file of its own."""
        self._started += 1
        with (
            (self._folder / f"{self._started}.out").open("wb") as out,
            (self._folder / f"{self._started}.err").open("wb") as err,
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", "pyshim", *words],
                stdout=out,
                stderr=err,
                env=self._environment,
            )
        self.members.append((words, process))

    def kill_one(self, role: str) -> None:
        """Kill -9 one of the role, and start another in its place."""
        words, process = random.choice([each for each in self.members if each[0][0] == role])
        self.members.remove((words, process))
        assert process.poll() is None, "it had ended by itself"
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.start(*words)

    def stop(self) -> None:
        """End all, gracefully."""
        for _, process in self.members:
            process.terminate()
        for _, process in self.members:
            process.wait(timeout=30)

    def end(self) -> None:
        """End all at once, whatever they do."""
        for _, process in self.members:
            process.kill()
            process.wait()

    def logged(self) -> list[str]:
        """Every line of standard error."""
        lines = [path.read_text().splitlines() for path in sorted(self._folder.glob("*.err"))]
        return [line for each in lines for line in each]

    def printed(self) -> Iterator[dict[str, Any]]:
        """Every whole line of standard output; a line that a kill cut short was never sent."""
        for path in self._folder.glob("*.out"):
            for line in path.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    yield json.loads(line)
