"""The file of a sidecar: what it may say, and what is said of mistakes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyshim import configfile, effective, lint
from pyshim.configfile import Given
from pyshim.errors import ConfigError, Mistakes
from pyshim.roles import Maintain, Relaying, Sweep, Work
from pyshim.serve import Address

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
SMALLEST = 'database_url = "postgresql://app@db/shop"\n[sweep]\n'


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def _read(text: str, given: Given | None = None, **env: str) -> configfile.Sidecar:
    return configfile.parse("t.toml", tomllib.loads(text), given or Given(), env)


def _complaint(text: str, **env: str) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        _read(text, None, **env)
    return raised.value


def test_every_role_is_read_with_the_names_of_its_options() -> None:
    sidecar = _read(
        """
        database_url = "postgresql://app@db/shop"
        schema = "jobs"
        timeout = "2s"
        log_format = "json"
        verbose = true
        listen = ":9187"
        doorbell = false
        [labels]
        environment = "staging"
        [sweep]
        topics = ["orders", "mail"]
        limit = 100
        interval = "250ms"
        [[relay]]
        topic = "payments"
        to = "stdout"
        limit = 50
        lease = 30
        timeout = "10s"
        [[relay]]
        topic = "shipments"
        to_env = "SHIPMENTS_TO"
        ordered = true
        [[work]]
        registry = "served_registry:registry"
        queues = ["q"]
        concurrency = 4
        batch = 20
        worker = "w"
        grace = "1min"
        [maintain]
        interval = "2s"
        lease = "20s"
        [maintain.retention]
        dead_letter = "90d"
        discard_dead_after = "1.5 h"
        """,
        SHIPMENTS_TO="-",
    )
    assert sidecar.database.url == "postgresql://app@db/shop"
    assert (sidecar.schema, sidecar.timeout, sidecar.log_format) == ("jobs", 2, "json")
    assert (sidecar.verbose, sidecar.doorbell) == (True, None)
    assert (sidecar.listen, sidecar.labels) == (Address("", 9187), {"environment": "staging"})
    assert sidecar.roles == {
        "sweep.topics[0]": Sweep("orders", 100, 0.25, cleanup=False),
        "sweep.topics[1]": Sweep("mail", 100, 0.25, cleanup=False),
        "relay[0]": Relaying("payments", "stdout", False, 50, 30, timeout=10),
        "relay[1]": Relaying("shipments", "-", True),
        "work[0]": Work("served_registry:registry", ("q",), 4, 20, "w", 60),
        "maintain": Maintain(
            2, 20, {"p_dead_letter_retention": 7776000, "p_discard_dead_after": 5400}
        ),
    }
    # two sweeps, two relays, two for the queue, the upkeep; a scrape and a probe
    assert sidecar.connections == 2 + 2 + 2 + 1 + 2


def test_what_is_not_said_is_the_default_of_the_command() -> None:
    sidecar = _read(SMALLEST)
    assert sidecar.roles == {"sweep": Sweep()}
    assert (sidecar.schema, sidecar.timeout, sidecar.log_format) == ("tidegate", 5, "text")
    assert sidecar.doorbell == sidecar.database


def test_a_sweep_beside_a_maintainer_leaves_the_cleaning_to_it() -> None:
    assert _read(SMALLEST).roles["sweep"] == Sweep(cleanup=True)
    assert _read(SMALLEST + "[maintain]").roles["sweep"] == Sweep(cleanup=False)
    both = _read(SMALLEST + "cleanup = true\n[maintain]")
    assert both.roles["sweep"] == Sweep(cleanup=True)
    assert [place for place, _ in lint.warnings(both)] == ["sweep"]


def test_the_command_line_and_the_environment_stand_above_the_file() -> None:
    text = 'database_url = "postgresql://file/d"\nschema = "file"\ntimeout = 1\n[sweep]\n'
    assert _read(text).database.source == "t.toml: database_url"
    assert _read(text, DATABASE_URL="postgresql://env/d").database.source == "DATABASE_URL"
    assert _read(text, PGHOST="env").database.url == "postgresql://file/d"
    assert _read(text, TIDEGATE_SCHEMA="env").schema == "env"
    given = Given(database_url="postgresql://flag/d", schema="flag", timeout=9)
    sidecar = _read(text, given, DATABASE_URL="postgresql://env/d", TIDEGATE_SCHEMA="env")
    assert (sidecar.database.source, sidecar.schema) == ("--database-url", "flag")
    assert sidecar.timeout == 9
    # and PG* alone will do
    assert _read("[sweep]", PGHOST="env").database.source == "PGHOST"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no role is said"),
        ("sweep = 1", "t.toml: sweep is 1; allowed: a table, [sweep]"),
        ("[swep]", "t.toml: swep is not known; is it sweep?"),
        ("[sweep]\nlimt = 1", "t.toml: sweep.limt is not known; is it limit?"),
        ("[sweep]\nlimit = 0", "t.toml: sweep.limit is 0; allowed: a whole number from 1 to 10000"),
        ("[sweep]\nlimit = true", "t.toml: sweep.limit is true; allowed: a whole number"),
        ("[sweep]\ninterval = 'soon'", 't.toml: sweep.interval is "soon"; allowed: a number'),
        ("[sweep]\ninterval = -1", "t.toml: sweep.interval is -1; allowed: a number"),
        ("[sweep]\ncleanup = 'no'", 't.toml: sweep.cleanup is "no"; allowed: true or false'),
        ("[sweep]\ntopics = 'orders'", 't.toml: sweep.topics is "orders"; allowed: a list'),
        ("[sweep]\ntopics = []", "t.toml: sweep.topics is []; allowed: a list"),
        ("[relay]\ntopic = 'a'", "t.toml: relay cannot be used; allowed: tables, each under [["),
        ("[[relay]]\nto = '-'", "t.toml: relay[0].topic is missing; it is the topic to relay"),
        ("[[relay]]\ntopic = 'a'", "relay[0].to is missing, and the variable TIDEGATE_RELAY_TO is"),
        ("[[relay]]\ntopic = 'a'\nto = 'x://'", "t.toml: relay[0].to: unknown target 'x://'"),
        ("[[relay]]\ntopic = 'a'\nto = '-'\nto_env = 'X'", "t.toml: relay[0].to_env stands beside"),
        ("[[relay]]\ntopic = 'a'\nto_env = 'a b'", "t.toml: relay[0].to_env cannot be used"),
        ("[[work]]\nregistry = 'nothing_here'", "t.toml: work[0].registry: cannot import nothing_"),
        (
            "[[work]]\nregistry = 'served_registry'\nqueues = ['r']",
            "t.toml: work[0].registry: served_registry:registry has no handler for queue 'r'",
        ),
        ("[maintain]\ninterval = 10", "t.toml: maintain.interval is 10 s; allowed: less than the"),
        (
            "[maintain.retention]\nrun = 'ever'",
            't.toml: maintain.retention.run is "ever"; allowed: a number of seconds, or a text of'
            " a number with ms, s, min, h or d, such as 30d",
        ),
        ("[maintain.retention]\nruns = 1", "maintain.retention.runs is not known; is it run?"),
        ("listen = 'x'", "t.toml: listen is 'x'; allowed: HOST:PORT"),
        ("log_format = 'xml'", 't.toml: log_format is "xml"; allowed: text or json'),
        ("[labels]\nle = 'x'", "t.toml: labels.le: le is 'le=x'; there is a label le already"),
        ("[labels]\nenv = 1", "t.toml: labels.env is 1; allowed: a text"),
        ("schema = ' '", 't.toml: schema is " "; allowed: the name of a schema'),
        ("database_url = 5", "t.toml: database_url cannot be used; allowed: postgresql://"),
    ],
)
def test_a_mistake_names_file_key_and_value_and_what_is_allowed(text: str, said: str) -> None:
    assert said in _complaint(text, DATABASE_URL="postgresql://app@db/shop").message


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    text = """
        timeout = "soon"
        schema = "a$b"
        listen = "x"
        colour = 1
        [labels]
        env = 1
        le = "x"
        [sweep]
        limt = 1
        interval = -1
        [[relay]]
        to = "x://"
        lease = "soon"
        [[relay]]
        topic = "b"
        to = 5
        [[work]]
        queues = []
        [[work]]
        registry = "nothing_here"
        grace = true
        [maintain]
        lease = 0
        [maintain.retention]
        runs = 1
        """
    error = _complaint(text)
    assert isinstance(error, Mistakes)
    assert {each.message.split()[1].rstrip(":") for each in error.mistakes[1:]} == {
        "timeout", "schema", "listen", "colour", "labels.env", "labels.le", "sweep.limt",
        "sweep.interval", "relay[0].topic", "relay[0].to",
        "relay[0].lease", "relay[1].to", "work[0].registry",
        "work[0].queues", "work[1].registry", "work[1].grace", "maintain.lease",
        "maintain.retention.runs",
    }  # fmt: skip
    assert error.mistakes[0].message == "no database named"
    # each once: nothing is said to be missing because it was wrong
    assert len(error.mistakes) == 19
    for each in error.mistakes:
        assert each.message in error.message


@pytest.mark.parametrize(
    "text",
    [
        "database_url = 5\n[sweep]",
        "[swep]",
        "[[relay]]\ntopic = 'a'\nto_env = 5",
        "[maintain]\ninterval = 20\nlease = 'long'",
        "[[work]]\nregistry = 5",
    ],
)
def test_what_is_wrong_is_not_told_twice(text: str) -> None:
    env = {} if "database_url" in text else {"PGHOST": "h"}
    assert not isinstance(_complaint(text, **env), Mistakes)


def test_all_channels_that_are_not_there_are_told_with_sql_that_runs() -> None:
    sidecar = _read(
        'database_url = "postgresql://app@db/shop"\nschema = "My Jobs"\n'
        "[[relay]]\ntopic = \"it's\"\nto = '-'\n[[work]]\nregistry = 'served_registry'"
    )
    policy = [SimpleNamespace(kind="topic", name="other")]
    with pytest.raises(Mistakes) as raised:
        lint.check_channels(sidecar, policy)
    first, second = raised.value.mistakes
    assert first.hint == "make it: select \"My Jobs\".topic_create('it''s')"
    assert second.hint == "make it: select \"My Jobs\".queue_create('q')"


def test_no_secret_is_shown_of_what_is_refused() -> None:
    for text in (
        'database_url = "postgresql://u:hunter2@x@h/d"\n[sweep]',
        '[[relay]]\ntopic = "a"\nto = "redis://:hunter2@h/0"',
        '[[relay]]\ntopic = "a"\nto = "hunter2://u:hunter2@h"',
    ):
        told = str(_complaint(text, **({} if "database" in text else {"PGHOST": "h"})))
        assert "hunter2@" not in told
        assert ":hunter2" not in told


def test_nobody_naming_a_database_is_told_how() -> None:
    error = _complaint("[sweep]")
    assert error.message == "no database named"
    assert "write database_url in t.toml" in (error.hint or "")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for content, said in ((None, "cannot read"), (b"[sweep", "is not TOML"), (b"\xff", "not UTF")):
        path = tmp_path / "f.toml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(
            ConfigError, match=f"{said}.*" if content is None else f"f.toml.*{said}"
        ):
            configfile.read(path, Given(), {})


def test_what_is_in_force_is_toml_again_and_holds_no_secret() -> None:
    text = """
        database_url = "postgresql://app:hunter2@db/shop"
        [labels]
        "a" = 'quo"te'
        [sweep]
        topics = ["orders", "mail"]
        interval = "250ms"
        [[relay]]
        topic = "payments"
        to = "redis://:hunter2@cache:6379/0?stream=payments"
        [[relay]]
        topic = "hooks"
        to = "https://example.com/T0/hunter2?token=hunter2"
        [[relay]]
        topic = "orders2"
        to = "tls://hunter2@n:4222?subject=a"
        [[work]]
        registry = "served_registry"
        queues = ["q"]
        [maintain.retention]
        run = "7d"
        """
    shown = effective.effective(_read(text))
    assert "hunter2" not in shown
    again: dict[str, Any] = tomllib.loads(shown)
    assert again["labels"] == {"a": 'quo"te'}
    assert again["sweep"]["interval"] == "0.25s"
    assert again["relay"][0]["to"] == "redis://***@cache:6379/0?stream=payments"
    assert [each["to"] for each in again["relay"][1:]] == [
        "https://example.com/…",
        "tls://***@n:4222?subject=a",
    ]
    assert again["work"] == [
        {"registry": "served_registry", "queues": ["q"], "grace": "25s"},
    ]
    assert again["maintain"]["retention"] == {"run": "604800s"}
    # what it says is what it was made from
    again["database_url"] = "postgresql://app:hunter2@db/shop"
    again["relay"] = tomllib.loads(text)["relay"]
    assert configfile.parse("t.toml", again, Given(), {}).roles == _read(text).roles


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("[[relay]]\ntopic = 'a'\nto = '-'\nlease = 30", []),
        ("[[relay]]\ntopic = 'a'\nto = '-'\nlease = 10", ["relay[0]"]),
        ("[[relay]]\ntopic = 'a'\nto = '-'\nlease = 100", ["relay[0]"]),
        ("[sweep]\ntimeout = 0", ["sweep"]),
        ("timeout = '2min'\n[sweep]", ["sweep"]),
        ("timeout = 40\n[sweep]", []),
        ("timeout = 40\n[maintain]", ["maintain"]),
        ("[maintain]\ninterval = 5\nlease = 10", ["maintain"]),
        ("[sweep]\ntopics = ['a']\n[[relay]]\ntopic = 'a'\nto = '-'", ["relay[0]"]),
        ("[[relay]]\ntopic = 'a'\nto = '-'\n[[relay]]\ntopic = 'a'\nto = '-'", ["relay[1]"]),
        ("[[work]]\nregistry = 'served_registry'\n" * 2, ["work[1]"]),
        ("[[work]]\nregistry = 'served_registry'\n" * 3, ["work[1]", "work[2]"]),
        (
            "[[relay]]\ntopic = 'a'\nto = '-'\nlimit = 1\n[[relay]]\ntopic = 'a'\nto = '-'",
            ["relay[1]"],
        ),
        (
            "[[relay]]\ntopic = 'a'\nto = '-'\n[[relay]]\ntopic = 'a'\nto = 'http://h'",
            ["relay[1]"],
        ),
        (
            "[[relay]]\ntopic = 'q'\nordered = true\nto = '-'\n"
            "[[work]]\nregistry = 'served_registry'",
            ["work[0]"],
        ),
    ],
)
def test_what_fits_together_badly_is_said(text: str, warned: list[str]) -> None:
    sidecar = _read(text, DATABASE_URL="postgresql://app@db/shop")
    assert [place for place, _ in lint.warnings(sidecar)] == warned
