"""A password is said to whoever it is for, and to nobody else: not in errors, not in logs, of ours
or of the libraries that speak to brokers. Of commands: test_cli and test_cli_loops."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from pyshim.config import Database
from pyshim.connect import connect
from pyshim.errors import DatabaseUnavailable
from pyshim.logs import one_line
from pyshim.publishers import TransportDown, publisher_for
from tests.brokers import free_port

SECRET = "hunter2"
TARGETS = {
    "redis": f"redis://u:{SECRET}@127.0.0.1:{{}}/0?stream=s",
    "nats": f"nats://u:{SECRET}@127.0.0.1:{{}}?subject=s",
    "nats token": f"nats://{SECRET}@127.0.0.1:{{}}?subject=s",
    "rabbitmq": f"amqp://u:{SECRET}@127.0.0.1:{{}}/?exchange=e",
    "kafka": f"kafka://u:{SECRET}@127.0.0.1:{{}}/t?security.protocol=SASL_PLAINTEXT",
    "http": f"http://127.0.0.1:{{}}/hook/{SECRET}?token={SECRET}#secret_env=HOOK_SECRET",
}


def test_every_publisher_is_among_them() -> None:
    folder = Path(__file__).parents[2] / "pyshim" / "publishers"
    modules = {path.stem for path in folder.glob("*.py")}
    assert modules - {"__init__", "base", "target", "stdout"} == {n.split()[0] for n in TARGETS}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "kafka" else ()) for n in TARGETS]
)
async def test_a_broker_that_is_away_is_told_of_without_its_password(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "whsec_" + "A" * 44)
    caplog.set_level(logging.INFO)
    publisher = publisher_for(TARGETS[name].format(free_port()))
    try:
        with pytest.raises(TransportDown) as raised:
            await asyncio.wait_for(publisher.probe(), 30)
    finally:
        await publisher.close()
    seen = [str(raised.value), one_line(raised.value), repr(publisher), caplog.text]
    assert not [text for text in seen if SECRET in text]


async def test_a_database_that_is_away_is_told_of_without_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    away = Database(f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/d?sslmode=disable", "test")
    with pytest.raises(DatabaseUnavailable) as raised:
        await connect(away, attempts=1)
    seen = [str(raised.value), repr(away), away.place(), caplog.text]
    assert not [text for text in seen if SECRET in text]
