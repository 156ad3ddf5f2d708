"""The howto of the sidecar is tried as it is printed, and its annotated file is read."""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pyshim import configfile, effective
from pyshim.configfile import Given
from tests.py.test_howto import snippets

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = Path(__file__).parents[2] / "ops" / "tidegate.toml"


def test_the_page_can_be_followed(empty_database: str, psql: str, tmp_path: Path) -> None:
    # given the files of the page, in a folder of their own
    (file,), (module,), (commands,) = (
        snippets("sidecar.md", each) for each in ("toml", "python", "sh")
    )
    (tmp_path / "tidegate.toml").write_text(file.replace(":9187", ":0"))
    (tmp_path / "jobs.py").write_text(module)
    command = tmp_path / "tidegate"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pyshim "$@"\n')
    command.chmod(0o755)
    env = {
        **{name: value for name, value in os.environ.items() if "DATABASE_URL" not in name},
        "DATABASE_URL": empty_database,
        "PATH": os.pathsep.join([str(tmp_path), str(Path(psql).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    # when its commands are typed, one after the other
    export, *lines, last = commands.splitlines()
    assert export.startswith("export DATABASE_URL=") and last == "tidegate run"
    shell = shutil.which("sh")
    assert shell is not None
    subprocess.run([shell, "-e", "-c", "\n".join(lines)], cwd=tmp_path, env=env, check=True)
    sidecar = subprocess.Popen(
        [shell, "-c", f"exec {last}"],
        cwd=tmp_path,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    # then it prints the payment and the mail, and ends when it is told to
    out: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert sidecar.stdout is not None
        for line in sidecar.stdout:
            out.put(line)

    threading.Thread(target=read, daemon=True).start()
    try:
        printed = sorted([out.get(timeout=60), out.get(timeout=60)])
        assert printed[0] == "mail for order 1\n"
        assert '"payload":{"payment": 1}' in printed[1]
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.wait(60) == 0
    finally:
        sidecar.kill()
        sidecar.wait()


def _application(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the example imports."""
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").write_text("")
    (module,) = snippets("sidecar.md", "python")
    (folder / "app" / "jobs.py").write_text(module)
    monkeypatch.syspath_prepend(str(folder))


def test_the_annotated_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _application(tmp_path, monkeypatch)
    env = {"SHIPMENTS_TO": "stdout"}
    sidecar = configfile.read(EXAMPLE, Given(), env)
    assert list(sidecar.roles) == ["sweep", "relay[0]", "relay[1]", "work[0]", "maintain"]
    assert "at most" in effective.effective(sidecar)
    # also with everything in force that stands behind a #
    text = re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    full = configfile.parse("full", tomllib.loads(text), Given(), env)
    assert list(full.roles) == list(sidecar.roles)


def test_the_annotated_file_has_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _application(tmp_path, monkeypatch)
    known: dict[str, set[str]] = {}
    monkeypatch.setattr(
        configfile.Table,
        "end",
        lambda table: known.setdefault(re.sub(r"\[\d+\]", "", table.path), set()).update(
            table._known
        ),
    )
    values = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE))
    configfile.parse("full", values, Given(), {"SHIPMENTS_TO": "stdout"})
    tables = {
        "": [values],
        "sweep": [values["sweep"]],
        "relay": values["relay"],
        "work": values["work"],
        "maintain": [values["maintain"]],
        "maintain.retention": [values["maintain"]["retention"]],
    }
    assert known.keys() == tables.keys()
    for path, found in tables.items():
        assert known[path] == {key for each in found for key in each}, path


@pytest.mark.parametrize("file", ["k8s/tidegate.toml", "compose/tidegate.toml"])
def test_the_files_of_the_manifests_are_read(file: str) -> None:
    sidecar = configfile.read(EXAMPLE.parent / file, Given(), {"PGHOST": "h"})
    assert {"sweep", "maintain"} <= set(sidecar.roles)
