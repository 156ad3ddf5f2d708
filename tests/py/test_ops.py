"""What stands in ops/: every metric exists, every alert has its runbook and is tested both ways."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pyshim.meter import OWN

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "ops" / "prometheus"
RULES = (PROMETHEUS / "rules.yml").read_text()
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = re.findall(r"- alert: (\w+)", RULES)
NAME = re.compile(r"\btidegate_[a-z_]+")


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for each in node.values() if isinstance(node, dict) else node:
            yield from _strings(each)


def _dashboard() -> dict[str, Any]:
    text = (ROOT / "ops" / "grafana" / "dashboard.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def _expressions() -> list[str]:
    """Every expression of rules and dashboard."""
    rules = re.findall(r"expr: \|\n((?: {10}.*\n)+)", RULES)
    panels = [target["expr"] for panel in _dashboard()["panels"] for target in panel["targets"]]
    assert len(rules) == len(ALERTS)
    return rules + panels


@pytest.fixture
def labels(database: str) -> dict[str, set[str]]:
    """Name of each metric that there is → the labels that it may have."""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("set search_path = tidegate")
        conn.execute("select queue_create('q'), topic_create('t')")
        conn.execute("select queue_send('q', '{}')")
        conn.execute("select queue_nack(lease_id, null, 'x', false) from queue_claim('q')")
        conn.execute("select maintenance_start(job) from maintenance_due()")
        conn.execute("select maintenance_finish(job) from maintenance_due()")
        conn.execute("select metrics_snapshot()")
        listed = {row[0] for row in conn.execute("select name from _metric_list()")}
        told: dict[str, set[str]] = {}
        for name, found in conn.execute("select name, labels from metrics()"):
            told.setdefault(name, set()).update(found)
    assert set(told) == listed, "what is listed is told, and what is told is listed"
    own = {"loop", "channel", "outcome"}
    for name, (kind, _) in OWN.items():
        told[name] = own
        if kind == "histogram":
            told |= {f"{name}_bucket": own | {"le"}, f"{name}_sum": own, f"{name}_count": own}
    return told


def test_every_metric_that_is_asked_for_exists(labels: dict[str, set[str]]) -> None:
    asked = {name for text in _expressions() for name in NAME.findall(text)}
    asked |= {name for text in _strings(_dashboard()["templating"]) for name in NAME.findall(text)}
    assert len(asked) > 25
    assert asked <= set(labels)


def test_every_label_that_is_asked_for_exists(labels: dict[str, set[str]]) -> None:
    wrong = []
    for text in _expressions():
        for name, inside in re.findall(r"\b(tidegate_[a-z_]+)\{([^}]*)\}", text):
            wrong += [
                f"{name}: {label}"
                for label in re.findall(r"(\w+)\s*[=!]", inside)
                if label not in labels[name]
            ]
    assert wrong == []


def test_no_alert_is_there_twice() -> None:
    assert len(ALERTS) == len(set(ALERTS)) > 10


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_runbook_that_leads_to_the_doctor(alert: str) -> None:
    slug = re.sub(r"(?<!^)([A-Z])", r"-\1", alert.removeprefix("Tidegate")).lower()
    rule = RULES[RULES.index(f"- alert: {alert}\n") :].split("- alert:")[1]
    assert f"runbook: docs/runbooks/{slug}.md" in rule
    text = (RUNBOOKS / f"{slug}.md").read_text()
    assert f"`{alert}`" in text
    assert "from doctor()" in text
    assert f"({slug}.md)" in (RUNBOOKS / "README.md").read_text()


def test_every_runbook_belongs_to_an_alert_or_to_somebody_who_has_a_plan() -> None:
    assert len(list(RUNBOOKS.glob("*.md"))) == len(ALERTS) + len(["README.md", "drain.md"])


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_to_fire_and_to_keep_silent(alert: str) -> None:
    for name, answer in (("firing", r"\n +- exp_labels"), ("silence", r" \[\]")):
        text = (PROMETHEUS / "tests" / f"{name}.yml").read_text()
        assert re.search(rf"alertname: {alert}\n +exp_alerts:{answer}", text), name


def test_checks_that_runbooks_name_are_the_doctors(database: str) -> None:
    with psycopg.connect(database) as conn:
        checks = {row[0] for row in conn.execute("select check_name from tidegate.doctor()")}
    named = set()
    for path in RUNBOOKS.glob("*.md"):
        for line in path.read_text().splitlines():
            if match := re.match(r"\d\. ((?:`\w+`(?:, | or |)?)+) (?:fails?|names?)\b", line):
                named |= set(re.findall(r"`(\w+)`", match[1]))
    assert len(named) > 5
    assert named <= checks


@pytest.mark.heavy
def test_promtool_accepts_the_rules_and_their_tests() -> None:
    promtool = shutil.which("promtool")
    assert promtool, "this test needs promtool: install Debian's package prometheus"
    tests = sorted((PROMETHEUS / "tests").glob("*.yml"))
    for words in (["check", "rules", PROMETHEUS / "rules.yml"], ["test", "rules", *tests]):
        done = subprocess.run(
            [promtool, *map(str, words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.heavy
def test_a_rule_that_is_broken_is_noticed(tmp_path: Path) -> None:
    """Each threshold turned around is noticed by the rules' own tests."""
    promtool = shutil.which("promtool")
    assert promtool, "this test needs promtool: install Debian's package prometheus"
    mutants = list(re.finditer(r"(?<= )(>=|>|==)(?= [0-9])", RULES))

    def passes(number: int, sign: str) -> bool:
        match = mutants[number]
        folder = shutil.copytree(PROMETHEUS, tmp_path / f"{number}{sign}")
        # That alert alone, and what is said of it: all of them take promtool seconds.
        alert = re.findall(r"- alert: (\w+)", RULES[: match.start()])[-1]
        rules = yaml.safe_load(RULES[: match.start()] + sign + RULES[match.end() :])
        for group in rules["groups"]:
            group["rules"] = [rule for rule in group["rules"] if rule["alert"] == alert]
        (folder / "rules.yml").write_text(yaml.safe_dump(rules))
        paths = sorted((folder / "tests").glob("*.yml"))
        for path in paths:
            suite = yaml.safe_load(path.read_text())
            suite["tests"] = [
                {**test, "alert_rule_test": of_it}
                for test in suite["tests"]
                if (of_it := [t for t in test["alert_rule_test"] if t["alertname"] == alert])
            ]
            path.write_text(yaml.safe_dump(suite))
        words = [promtool, "test", "rules", *map(str, paths)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    for number, match in enumerate(mutants):
        around = RULES[max(0, match.start() - 80) : match.end() + 20]
        assert passes(number, match[1]), around
        assert not passes(number, "<"), around
