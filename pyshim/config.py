"""Settings: flag, then TIDEGATE_*, then DATABASE_URL or PG*, then the default."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from psycopg import conninfo, pq

from pyshim.errors import ConfigError
from pyshim.names import check_schema_name

DEFAULT_SCHEMA = "tidegate"
EMBEDDED_VERSIONS = (18, 16)

_PG_ENVIRONMENT = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT", "PGUSER")
_DURATION = re.compile(r"(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|min|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_KEYWORD_SECRET = re.compile(
    r"(?<![?&])\b((?:ssl)?password)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE
)
_QUERY_SECRET = re.compile(r"([?&](?:ssl)?password=)[^&\s]*", re.IGNORECASE)
_URL_SECRET = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^/\s:@]*:)([^\s]*)(@)", re.IGNORECASE)
_BARE_SECRET = re.compile(r":(?!//)\S*@")  # user:password@host, the scheme forgotten or misspelt
_NOT_A_URL = (
    "write postgresql://user:password@host:5432/dbname or host=… dbname=…;"
    " write @ : / % in a password as %40 %3A %2F %25"
)


def redact(text: str) -> str:
    """`text` with every password in a URL or a keyword string replaced by `***`."""
    text = _URL_SECRET.sub(r"\1***\3", text)
    text = _BARE_SECRET.sub(":***@", text)
    text = _QUERY_SECRET.sub(r"\1***", text)
    return _KEYWORD_SECRET.sub(r"\1=***", text)


@dataclass(frozen=True)
class Database:
    """Where the server is. `url` may hold a password; `source` says who named it."""

    url: str
    source: str

    def place(self) -> str:
        """host:port/dbname, for people: no user, no password."""
        named = {option.keyword: option.val for option in pq.Conninfo.get_defaults()}
        known = {key.decode(): (value or b"").decode() for key, value in named.items()}
        known.update(
            {key: str(value) for key, value in conninfo.conninfo_to_dict(self.url).items()}
        )
        host = known["host"] or known["hostaddr"] or "local"
        return f"{host}:{known['port']}/{known['dbname'] or known['user']}"

    def __repr__(self) -> str:
        return f"Database(url={redact(self.url)!r}, source={self.source!r})"


def database(
    flag: str | None = None,
    env: Mapping[str, str] | None = None,
    otherwise: tuple[str, str] | None = None,
) -> Database | None:
    """The database that flags or the environment name; None when nobody names one. `otherwise`, a
    source and its value, stands above PG*: these complete what it leaves out."""
    env = os.environ if env is None else env
    for source, value in (
        ("--database-url", flag),
        ("TIDEGATE_DATABASE_URL", env.get("TIDEGATE_DATABASE_URL")),
        ("DATABASE_URL", env.get("DATABASE_URL")),
        otherwise or ("", None),
    ):
        if value:
            return Database(_checked_url(source, value), source)
    named = [name for name in _PG_ENVIRONMENT if env.get(name)]
    return Database("", ", ".join(named)) if named else None


def require_database(flag: str | None = None, env: Mapping[str, str] | None = None) -> Database:
    """Like `database`, but nobody naming one is a `ConfigError` with the next step."""
    found = database(flag, env)
    if found is None:
        raise ConfigError(
            "no database named",
            hint="give --database-url, or set DATABASE_URL=postgresql://user@host/dbname",
        )
    return found


def doorbell_database(flag: str | None, otherwise: Database) -> Database:
    """Where to listen for the doorbell: what --doorbell-url or the environment names, which has to
    be the same database without a transaction pooler in between, or `otherwise`."""
    for source, value in (
        ("--doorbell-url", flag),
        ("TIDEGATE_DOORBELL_URL", os.environ.get("TIDEGATE_DOORBELL_URL")),
    ):
        if value:
            return Database(_checked_url(source, value), source)
    return otherwise


def _checked_url(source: str, value: str) -> str:
    # SQLAlchemy writes postgresql+driver://; libpq knows no drivers.
    value = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", value)
    try:
        port = conninfo.conninfo_to_dict(value).get("port") or ""
        usable = all(not each or str(each).isdigit() for each in str(port).split(","))
        if "://" in value:
            usable = usable and _is_unambiguous(value)
    except Exception:
        usable = False
    if not usable:  # any part of it may be a password, so nothing of it is shown
        raise ConfigError(f"{source} is not a PostgreSQL connection string", hint=_NOT_A_URL)
    return value


def _is_unambiguous(url: str) -> bool:
    """Whether no `@`, `/`, `?` or `#` of a password can be taken for the end of it."""
    urlsplit(url)
    authority, _, rest = url.partition("://")[2].partition("/")
    login, at, host = authority.partition("@")
    if at:
        return "@" not in host and not set("?#") & set(login)
    return not (":" in authority and "@" in rest.partition("?")[0])


def schema(
    flag: str | None = None, env: Mapping[str, str] | None = None, *, roles: bool = False
) -> str:
    """The raw schema name, checked."""
    env = os.environ if env is None else env
    name = flag if flag is not None else env.get("TIDEGATE_SCHEMA", DEFAULT_SCHEMA)
    return check_schema_name(name, roles=roles)


def duration(name: str, value: str) -> float:
    """Seconds from `500ms`, `5s`, `2min`, `1h` or a bare number of seconds; at least 0."""
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ConfigError(
            f"{name} is {value!r}; allowed: a number with ms, s, min or h, such as 5s"
        )
    return float(match["count"]) * _UNITS[match["unit"] or "s"]


def embedded_version(env: Mapping[str, str] | None = None) -> int | Path:
    """TIDEGATE_PG: 18 or 16 from the wheel, or the folder of another PostgreSQL (with `bin`)."""
    value = (os.environ if env is None else env).get("TIDEGATE_PG") or str(EMBEDDED_VERSIONS[0])
    if value in map(str, EMBEDDED_VERSIONS):
        return int(value)
    if (Path(value) / "bin" / "postgres").is_file():
        return Path(value).resolve()
    allowed = ", ".join(map(str, EMBEDDED_VERSIONS))
    raise ConfigError(
        f"TIDEGATE_PG is {value!r}; allowed: {allowed}, or a folder that holds bin/postgres"
    )


def with_database(url: str, dbname: str) -> str:
    """The same server, user and options as `url`, another database."""
    if "://" in url:
        return urlunsplit(urlsplit(url)._replace(path="/" + quote(dbname, safe="")))
    return conninfo.make_conninfo(url, dbname=dbname)
