"""The file of a sidecar: one installation, its settings, and a table for each role.

Names are those of the options of the commands. What the command line or the environment says stands
above the file; what nobody says is the default of the command.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pyshim import config, logs
from pyshim.errors import ConfigError, Mistakes
from pyshim.registry import MOST_AT_ONCE
from pyshim.roles import Maintain, Relaying, Role, Sweep, Work
from pyshim.serve import Address, address, label
from pyshim.session import DEFAULT_TIMEOUT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = "tidegate.toml"
MOST_AT_A_CLAIM = 10_000

# What a cleanup keeps for how long: key of the file → argument of cleanup_sweep.
RETENTION = {
    "key": "p_key_retention",
    "guard": "p_guard_retention",
    "dead_letter": "p_dead_letter_retention",
    "counter": "p_counter_retention",
    "incident": "p_incident_retention",
    "barrier": "p_barrier_retention",
    "run": "p_run_retention",
    "discard_dead_after": "p_discard_dead_after",
}

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DAYS = re.compile(r"(\d+(?:\.\d+)?)\s*d")


@dataclass(frozen=True)
class Given:
    """What was said on the command line or, where an option has one, in its variable. None:
    nothing."""

    database_url: str | None = None
    schema: str | None = None
    timeout: float | None = None
    log_format: logs.Format | None = None
    verbose: bool = False
    listen: Address | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    doorbell: bool | None = None
    doorbell_url: str | None = None


@dataclass(frozen=True)
class Sidecar:
    """All that one process runs. `roles` by where they stand in the file."""

    file: str
    database: config.Database
    schema: str
    timeout: float
    log_format: logs.Format
    verbose: bool
    listen: Address | None
    labels: Mapping[str, str]
    doorbell: config.Database | None
    roles: Mapping[str, Role]

    sources: Mapping[str, str]  # of targets that a variable holds: place → its name

    @property
    def connections(self) -> int:
        """The most database connections at once. A scrape has one and a probe another; whoever
        listens has one, and for a moment another."""
        roles = sum(role.connections for role in self.roles.values())
        return roles + (2 if self.listen else 0) + (2 if self.doorbell else 0)


class Table:
    """One table of the file. Whatever is asked for is known; the rest is refused by `end`.

    A value that cannot be used is noted among the mistakes of the file, and answered as if it had
    not been said: all of them are told at once.
    """

    def __init__(
        self, file: str, path: str, values: Mapping[str, Any], mistakes: list[ConfigError]
    ) -> None:
        self.file = file
        self.path = path
        self.mistakes = mistakes
        self._values = values
        self._known: list[str] = []

    def place(self, key: str) -> str:
        """The dotted path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def named(self, key: str) -> str:
        """File and dotted path of a key."""
        return f"{self.file}: {self.place(key)}"

    def wrong(self, message: str, hint: str | None = None) -> None:
        """Note a mistake."""
        self.mistakes.append(ConfigError(message, hint=hint))

    def bad(self, key: str, allowed: str, *, shown: bool = True) -> None:
        """Note that the value of a key cannot be used."""
        value = f" is {_shown(self._values[key])}" if shown else " cannot be used"
        self.wrong(f"{self.named(key)}{value}; allowed: {allowed}")

    def noting(self, key: str | None = None) -> Noting:
        """Notes a mistake that somebody else finds: of the value of a key, unless it says so
        itself."""
        return Noting(self, key)

    def has(self, key: str) -> bool:
        """Whether it is there."""
        self._known.append(key)
        return key in self._values

    def text(self, key: str, allowed: str = "a text", *, secret: bool = False) -> str | None:
        """A text that is not empty."""
        if not self.has(key):
            return None
        value = self._values[key]
        if not isinstance(value, str) or not value.strip():
            self.bad(key, allowed, shown=not secret)
            return None
        return value

    def needed(self, key: str, allowed: str) -> str:
        """A text without which nothing goes; empty when that has been noted."""
        value = self.text(key, allowed)
        if value is None and key not in self._values:
            self.wrong(f"{self.named(key)} is missing; it is {allowed}")
        return value or ""

    def texts(self, key: str, allowed: str) -> tuple[str, ...]:
        """A list of texts."""
        if not self.has(key):
            return ()
        value = self._values[key]
        fits = isinstance(value, list) and all(isinstance(each, str) and each for each in value)
        if not fits or not value:
            self.bad(key, allowed)
            return ()
        return tuple(dict.fromkeys(value))

    def flag(self, key: str) -> bool | None:
        """true or false."""
        if not self.has(key):
            return None
        if not isinstance(self._values[key], bool):
            self.bad(key, "true or false")
            return None
        return cast(bool, self._values[key])

    def count(self, key: str, most: int) -> int | None:
        """A whole number from 1."""
        if not self.has(key):
            return None
        value = self._values[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            self.bad(key, f"a whole number from 1 to {most}")
            return None
        return value

    def duration(self, key: str, *, least: float = 0.0, days: bool = False) -> float | None:
        """Seconds."""
        if not self.has(key):
            return None
        value = self._values[key]
        units = "ms, s, min, h or d, such as 30d" if days else "ms, s, min or h, such as 5s"
        allowed = f"a number of seconds, or a text of a number with {units}"
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= least:
            return float(value)
        if not isinstance(value, str):
            self.bad(key, allowed)
            return None
        if days and (match := _DAYS.fullmatch(value.strip())):
            return float(match[1]) * 86400
        try:
            seconds = config.duration(key, value)
        except ConfigError:
            self.bad(key, allowed)
            return None
        if seconds < least:
            self.bad(key, f"at least {least:g} s")
            return None
        return seconds

    def choice(self, key: str, choices: tuple[str, ...]) -> str | None:
        """One of a few."""
        if not self.has(key):
            return None
        if self._values[key] not in choices:
            self.bad(key, " or ".join(choices))
            return None
        return cast(str, self._values[key])

    def table(self, key: str) -> Table | None:
        """A table in this one."""
        if not self.has(key):
            return None
        if not isinstance(self._values[key], dict):
            self.bad(key, f"a table, [{self.place(key)}]")
            return None
        return Table(self.file, self.place(key), self._values[key], self.mistakes)

    def tables(self, key: str) -> list[Table]:
        """An array of tables."""
        if not self.has(key):
            return []
        value = self._values[key]
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self.bad(key, f"tables, each under [[{self.place(key)}]]", shown=False)
            return []
        return [
            Table(self.file, f"{self.place(key)}[{at}]", each, self.mistakes)
            for at, each in enumerate(value)
        ]

    def items(self) -> Mapping[str, Any]:
        """Everything, whatever the keys."""
        self._known += self._values
        return self._values

    def end(self) -> None:
        """Note what is not known."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1, 0.5)
                known = ", ".join(sorted(self._known))
                self.wrong(
                    f"{self.named(key)} is not known" + (f"; is it {near[0]}?" if near else ""),
                    hint=f"known here: {known}",
                )

    def checked(self, key: str, error: ConfigError) -> ConfigError:
        """A mistake in the value of a key that somebody else has found."""
        return ConfigError(f"{self.named(key)}: {error.message}", hint=error.hint)


class Noting:
    """A mistake that is raised in here is noted, and no more."""

    def __init__(self, table: Table, key: str | None) -> None:
        self._table = table
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, ConfigError):
            return False
        found = error if self._key is None else self._table.checked(self._key, error)
        self._table.mistakes.append(found)
        return True


def find(named: str | None) -> Path:
    """The file that is meant."""
    if named is not None:
        return Path(named)
    if Path(DEFAULT_FILE).exists():
        return Path(DEFAULT_FILE)
    raise ConfigError(
        f"no configuration: there is no {DEFAULT_FILE} here",
        hint="name one with --config or TIDEGATE_CONFIG; docs/howto/sidecar.md shows one",
    )


def read(path: Path, given: Given, env: Mapping[str, str]) -> Sidecar:
    """What the file says, under what was given. Nothing is connected; a mistake is a `ConfigError`
    that names file, key and value, and what is allowed; several are `Mistakes`."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    return parse(str(path), values, given, env)


def parse(file: str, values: Mapping[str, Any], given: Given, env: Mapping[str, str]) -> Sidecar:
    """The same, of a file that has been read."""
    mistakes: list[ConfigError] = []
    top = Table(file, "", values, mistakes)
    database = _database(top, given, env)
    schema = _schema(top, given, env)
    timeout = top.duration("timeout")
    log_format = top.choice("log_format", ("text", "json"))
    verbose = top.flag("verbose")
    listen = _listen(top)
    labels = {**_labels(top), **given.labels}
    doorbell = _doorbell(top, given, env, database)
    relays, sources = _relays(top, env)
    roles: dict[str, Role] = {**_sweeps(top), **relays, **_works(top), **_maintain(top)}
    top.end()
    if not roles and not mistakes:
        top.wrong(f"{file}: no role is said", hint="write [sweep], [[relay]], [[work]], [maintain]")
    Mistakes.raise_any(mistakes)
    assert database is not None
    return Sidecar(
        file=file,
        database=database,
        schema=schema,
        timeout=_first(given.timeout, timeout, DEFAULT_TIMEOUT),
        log_format=cast(logs.Format, _first(given.log_format, log_format, "text")),
        verbose=given.verbose or bool(verbose),
        listen=given.listen or listen,
        labels=labels,
        doorbell=doorbell,
        roles=roles,
        sources=sources,
    )


def _database(top: Table, given: Given, env: Mapping[str, str]) -> config.Database | None:
    before = len(top.mistakes)
    allowed = "postgresql://user@host/dbname or host=… dbname=…"
    value = top.text("database_url", allowed, secret=True)
    source = top.named("database_url")
    found = None
    with top.noting():
        found = config.database(given.database_url, env, None if value is None else (source, value))
    if found is None and len(top.mistakes) == before:
        top.wrong(
            "no database named",
            hint=f"set TIDEGATE_DATABASE_URL or DATABASE_URL, or write database_url in {top.file}",
        )
    return found


def _schema(top: Table, given: Given, env: Mapping[str, str]) -> str:
    value = top.text("schema", "the name of a schema")
    chosen = _first(given.schema, env.get("TIDEGATE_SCHEMA"), value, config.DEFAULT_SCHEMA)
    with top.noting("schema" if chosen is value else None):
        return config.schema(chosen, env)
    return config.DEFAULT_SCHEMA


def _listen(top: Table) -> Address | None:
    value = top.text("listen", "HOST:PORT, as in 127.0.0.1:9187")
    if value is not None:
        with top.noting():
            return address(top.named("listen"), value)
    return None


def _labels(top: Table) -> dict[str, str]:
    table = top.table("labels")
    if table is None:
        return {}
    found = {}
    for name, value in table.items().items():
        if not isinstance(value, str):
            table.bad(name, "a text")
            continue
        with table.noting(name):
            label(name, f"{name}={value}")
            found[name] = value
    return found


def _doorbell(
    top: Table, given: Given, env: Mapping[str, str], database: config.Database | None
) -> config.Database | None:
    switch = _first(given.doorbell, top.flag("doorbell"), True)
    url = top.text("doorbell_url", "postgresql://user@host/dbname", secret=True)
    if not switch:
        return None
    with top.noting():
        if given.doorbell_url is None and "TIDEGATE_DOORBELL_URL" not in env and url is not None:
            named = config.database(None, {}, (top.named("doorbell_url"), url))
            return named or database
        if database is not None:
            return config.doorbell_database(given.doorbell_url, database)
    return None


def _sweeps(top: Table) -> dict[str, Role]:
    table = top.table("sweep")
    if table is None:
        return {}
    topics = table.texts("topics", 'a list of topics, such as ["orders"]; all without it')
    limit = table.count("limit", MOST_AT_A_CLAIM)
    interval = table.duration("interval", least=0.001)
    cleanup = table.flag("cleanup")
    timeout = table.duration("timeout")
    table.end()
    # A maintainer cleans up, when the schema says so.
    cleanup = not top.has("maintain") if cleanup is None else cleanup
    found: dict[str, Role] = {}
    for at, topic in enumerate(topics or (None,)):
        place = "sweep" if topic is None or len(topics) == 1 else f"sweep.topics[{at}]"
        found[place] = Sweep(
            topic=topic,
            limit=limit or Sweep.limit,
            interval=Sweep.interval if interval is None else interval,
            cleanup=cleanup and at == 0,
            timeout=timeout,
        )
    return found


def _relays(top: Table, env: Mapping[str, str]) -> tuple[dict[str, Role], dict[str, str]]:
    found: dict[str, Role] = {}
    sources = {}
    for table in top.tables("relay"):
        topic = table.needed("topic", "the topic to relay, or with ordered = true the queue")
        target = table.text("to", "stdout, or the URL of a broker", secret=True)
        variable = table.text("to_env", "the name of a variable that holds the target")
        key = "to" if target is not None else "to_env"
        if target is not None and variable is not None:
            table.wrong(f"{table.named('to_env')} stands beside to; allowed: one of them")
        elif target is None and not table.has("to") and (variable or not table.has("to_env")):
            variable = variable or "TIDEGATE_RELAY_TO"
            target = env.get(variable)
            if not _VARIABLE.fullmatch(variable):
                table.bad(key, "the name of a variable that holds the target", shown=False)
            elif not target:
                table.wrong(
                    f"{table.named('to')} is missing, and the variable {variable} is not set",
                    hint='write to = "redis://…", or to_env = the variable that holds it',
                )
            sources[table.path] = variable
        role = Relaying(
            topic=topic,
            to=target or "",
            ordered=bool(table.flag("ordered")),
            limit=table.count("limit", MOST_AT_A_CLAIM) or Relaying.limit,
            lease=table.duration("lease", least=0.001),
            timeout=table.duration("timeout"),
        )
        table.end()
        if target:
            _prepared(table, key, role)
        found[table.path] = role
    return found, sources


def _works(top: Table) -> dict[str, Role]:
    found: dict[str, Role] = {}
    for table in top.tables("work"):
        registry = table.needed("registry", "the handlers, as module:registry")
        grace = table.duration("grace")
        role = Work(
            registry=registry,
            queues=table.texts("queues", "a list of queues; all that have a handler without it"),
            concurrency=table.count("concurrency", MOST_AT_ONCE),
            batch=table.count("batch", MOST_AT_ONCE),
            worker=table.text("worker", "the name of the holder"),
            grace=Work.grace if grace is None else grace,
            timeout=table.duration("timeout"),
        )
        table.end()
        if registry:
            _prepared(table, "registry", role)
        found[table.path] = role
    return found


def _maintain(top: Table) -> dict[str, Role]:
    table = top.table("maintain")
    if table is None:
        return {}
    before = len(table.mistakes)
    kept = table.table("retention")
    retention = {}
    if kept is not None:
        for key, argument in RETENTION.items():
            if (seconds := kept.duration(key, least=1.0, days=True)) is not None:
                retention[argument] = seconds
        kept.end()
    interval = table.duration("interval", least=0.001)
    lease = table.duration("lease", least=0.001)
    role = Maintain(
        interval=Maintain.interval if interval is None else interval,
        lease=Maintain.lease if lease is None else lease,
        retention=retention,
        timeout=table.duration("timeout"),
    )
    table.end()
    if role.interval >= role.lease and len(table.mistakes) == before:
        at = table.named("interval")
        table.wrong(
            f"{at} is {role.interval:g} s; allowed: less than the lease, {role.lease:g} s",
            hint="the lease is renewed once an interval: give it several, such as 1s and 10s",
        )
    return {"maintain": role}


def _prepared(table: Table, key: str, role: Role) -> None:
    with table.noting(key):
        role.prepare()


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _shown(value: Any) -> str:
    text = config.redact(json.dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:79]}…"
