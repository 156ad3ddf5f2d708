"""A real Prometheus loads the rules, scrapes live processes, and is asked every expression."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.brokers import free_port, until

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "ops" / "prometheus"
DASHBOARD = json.loads((ROOT / "ops" / "grafana" / "dashboard.json").read_text())
RULES = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"][0]["rules"]

# What runs, twice, and is scraped.
SIDECAR = """
[sweep]
interval = "100ms"
[[relay]]
topic = "payments"
to = "stdout"
[[work]]
registry = "served_registry:registry"
[maintain]
"""
PROCESSES = [["run", "--config", "tidegate.toml"]] * 2

# A working installation says nothing here: what these show has not happened, or is not its kind.
MAY_BE_EMPTY = {
    "Became dead letters, an hour",
    "Incidents, ten minutes",
    "Leases taken back, an hour",
    "Errors, an hour; epoch of the leader",  # its first expression
}

pytestmark = pytest.mark.heavy


class Prometheus:
    """One that runs, and answers queries."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **arguments: str) -> Any:
        """What its API answers."""
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        return told["data"]

    def ask(self, expression: str) -> list[Any]:
        """The samples of an expression, now."""
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def is_ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{self._url}/-/ready", timeout=5).status == 200)
        return False


@contextlib.contextmanager
def _running(words: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def prometheus(database: str, tmp_path: Path) -> Iterator[Prometheus]:
    """It scrapes each of PROCESSES every second; so do they take a snapshot."""
    binary = shutil.which("prometheus")
    assert binary, "this test needs prometheus: install Debian's package of that name"
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("set search_path = tidegate")
        conn.execute("select queue_create('q'), topic_create('orders'), topic_create('payments')")
        conn.execute("select outbox_route('orders', 'q')")
        conn.execute("select maintenance_configure('metrics', p_every => '1 second')")
        conn.execute("select barrier_open('b', 1), guard_claim('s', 'k', 'w')")
        # One that died, and one that is on its way.
        conn.execute("select queue_create('other')")
        conn.execute("select queue_send('other', '{}')")
        conn.execute("select queue_nack(lease_id, null, 'x', false) from queue_claim('other')")
        conn.execute("select queue_send('other', '{}', p_run_at => now() + interval '1 hour')")
    environment = {
        **os.environ,
        "TIDEGATE_DATABASE_URL": database,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT), *sys.path]),
    }
    ports = [free_port() for _ in PROCESSES]
    port = free_port()
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (scrape,) = settings["scrape_configs"]
    del scrape["dns_sd_configs"]
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{each}" for each in ports]}]
    shutil.copy(PROMETHEUS / "rules.yml", tmp_path)
    (tmp_path / "tidegate.toml").write_text(SIDECAR)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
    with contextlib.ExitStack() as stack:
        for number, (words, listen) in enumerate(zip(PROCESSES, ports, strict=True)):
            command = [sys.executable, "-m", "pyshim", *words, "--listen", f"127.0.0.1:{listen}"]
            log = tmp_path / f"{number}.log"
            stack.enter_context(_running(command, log, env=environment, cwd=tmp_path))
        stack.enter_context(
            _running(
                [
                    binary, f"--config.file={tmp_path}/prometheus.yml",
                    f"--storage.tsdb.path={tmp_path}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                tmp_path / "prometheus.log",
            )
        )  # fmt: skip
        found = Prometheus(port)
        until(found.is_ready, 120)
        yield found


def _expressions() -> Iterator[tuple[str, str]]:
    """Title and expression of every panel, its variables being everything."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$kind", ".*").replace("$channel", ".*")
            assert "$" not in text, text
            yield panel["title"], text


def test_every_expression_is_answered(prometheus: Prometheus, database: str) -> None:
    # given load, until something was handled, published and swept, and all of it scraped twice
    needed = [
        "tidegate_handler_duration_seconds_count",
        "tidegate_publish_duration_seconds_count",
        'tidegate_messages_total{kind="topic", outcome="dispatched"} > 0',
        'tidegate_dead_letters{channel="other"} > 0',
        'tidegate_upkeep_last_success_timestamp_seconds{upkeep="recovery"}',
        "rate(tidegate_handler_duration_seconds_count[5m]) > 0",
        "rate(tidegate_publish_duration_seconds_count[5m]) > 0",
    ]
    with psycopg.connect(database, autocommit=True) as conn:

        def is_there() -> bool:
            for topic in ("orders", "payments"):
                conn.execute("select tidegate.outbox_put(%s, '{}')", (topic,))
            time.sleep(0.3)
            return all(prometheus.ask(each) for each in needed)

        until(is_there, 180)
        exported = {row[0] for row in conn.execute("select name from tidegate._metric_list()")}

    # then every target is up
    targets = prometheus.get("targets")["activeTargets"]
    assert [target["health"] for target in targets] == ["up"] * len(PROCESSES), targets
    assert len(prometheus.ask("tidegate_up == 1")) == len(PROCESSES)

    # and each panel shows something
    empty = {title for title, text in _expressions() if not prometheus.ask(text)}
    assert empty <= MAY_BE_EMPTY
    assert prometheus.ask("max(tidegate_leader_epoch)")[0]["value"][1] == "1"

    # and each variable has values
    for variable in DASHBOARD["templating"]["list"][1:]:
        selector, label = re.findall(r"label_values\((.*), (\w+)\)", variable["query"])[0]
        assert any(
            label in each["metric"] for each in prometheus.ask(selector.replace("$kind", ".*"))
        )

    # and the rules are those of the file, and every one can be evaluated
    loaded = prometheus.get("rules")["groups"][0]["rules"]
    assert [rule["name"] for rule in loaded] == [rule["alert"] for rule in RULES]

    def are_evaluated() -> bool:
        rules = prometheus.get("rules")["groups"][0]["rules"]
        return all(rule["health"] != "unknown" for rule in rules)

    until(are_evaluated, 60)
    for rule in prometheus.get("rules")["groups"][0]["rules"]:
        assert rule["health"] == "ok", rule
    for rule in RULES:
        prometheus.ask(rule["expr"])

    # a message has died: that fires, and nothing else does
    firing = {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]
              if alert["state"] == "firing"}  # fmt: skip
    assert firing <= {"TidegateDeadLettered"}

    # and every name that rules and panels use is one that a scrape has brought
    names = set(prometheus.get("label/__name__/values"))
    used = {
        name
        for text in [*(rule["expr"] for rule in RULES), *(text for _, text in _expressions())]
        for name in re.findall(r"\btidegate_[a-z_]+", text)
    }
    assert used <= names, used - names
    # what the database lists and no scrape brings, only a standby or a lack of rights explains
    assert exported - names <= {"tidegate_horizon_seconds", "tidegate_horizon_transactions"}
