"""A standby tells what it is, and nothing of queues."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pyshim import config, embedded, render


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.heavy
def test_a_standby_exports_no_gauges_of_queues(tmp_path: Path) -> None:
    version = config.embedded_version()
    with embedded.running(version, settings={"wal_level": "replica"}) as server:
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute(render.render("tidegate").encode())
            conn.execute("set search_path = tidegate")
            conn.execute("select queue_create('q')")
            conn.execute("select metrics_snapshot()")
        parts: dict[str, Any] = conninfo_to_dict(server.url)
        data, port = tmp_path / "standby", _free_port()
        user = embedded._unprivileged_user()
        for folder in (tmp_path, *tmp_path.parents):
            if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
                folder.chmod(0o777)
        subprocess.run(
            [server.bin / "pg_basebackup", "-R", "-X", "stream", "-c", "fast", "-D", str(data),
             "-d", server.url],
            check=True, cwd="/", **user,
        )  # fmt: skip
        standby = subprocess.Popen(
            [server.bin / "postgres", "-D", str(data), "-p", str(port), "-c",
             f"unix_socket_directories={tmp_path}", "-c", "listen_addresses=127.0.0.1"],
            cwd="/", stderr=subprocess.DEVNULL, **user,
        )  # fmt: skip
        try:
            url = make_conninfo(**{**parts, "host": "127.0.0.1", "port": port})
            end = time.monotonic() + 30
            while True:
                try:
                    connection = psycopg.connect(url, autocommit=True)
                    break
                except psycopg.OperationalError:
                    assert time.monotonic() < end
                    time.sleep(0.2)
            with connection as conn:
                told = conn.execute("select name, value from tidegate.metrics()").fetchall()
                assert {name for name, _ in told} == {
                    "tidegate_info", "tidegate_schema_version", "tidegate_standby"
                }  # fmt: skip
                assert dict(told)["tidegate_standby"] == 1
                checks = conn.execute("select check_name, status from tidegate.doctor()").fetchall()
                assert {name for name, _ in checks} == {"schema", "horizon", "settings"}
                assert not [name for name, status in checks if status == "fail"]
        finally:
            standby.terminate()
            standby.wait(20)
