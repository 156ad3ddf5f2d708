"""Settings: who wins, and what a mistake in one says."""

from __future__ import annotations

import pytest

from pyshim import config
from pyshim.errors import ConfigError

FLAG, OURS, COMMON = (f"postgresql://u@host/{name}" for name in ("flag", "ours", "common"))


@pytest.mark.parametrize(
    ("flag", "env", "url", "source"),
    [
        (
            FLAG,
            {"TIDEGATE_DATABASE_URL": OURS, "DATABASE_URL": COMMON},
            FLAG,
            "--database-url",
        ),
        (
            None,
            {"TIDEGATE_DATABASE_URL": OURS, "DATABASE_URL": COMMON},
            OURS,
            "TIDEGATE_DATABASE_URL",
        ),
        (None, {"DATABASE_URL": COMMON, "PGHOST": "there"}, COMMON, "DATABASE_URL"),
        (None, {"PGHOST": "there", "PGDATABASE": "x"}, "", "PGHOST, PGDATABASE"),
        (None, {"DATABASE_URL": "host=there dbname=x"}, "host=there dbname=x", "DATABASE_URL"),
        (
            None,
            {"DATABASE_URL": "postgresql+psycopg://u@h/x"},
            "postgresql://u@h/x",
            "DATABASE_URL",
        ),
    ],
)
def test_a_flag_wins_over_ours_over_the_common_ones(
    flag: str | None, env: dict[str, str], url: str, source: str
) -> None:
    assert config.require_database(flag, env) == config.Database(url, source)


def test_nobody_naming_a_database_is_an_error_with_the_next_step() -> None:
    assert config.database(None, {"DATABASE_URL": ""}) is None
    with pytest.raises(ConfigError) as error:
        config.require_database(None, {})
    assert "DATABASE_URL=postgresql://" in (error.value.hint or "")


@pytest.mark.parametrize(
    "value",
    [
        "nonsense",
        "host=x port",
        "host=x password=my secret",
        "u:secret@h/x",
        "postgres//u:secret@h/x",
        "postgresql://u:secret@[h/x",
        "postgresql://u:p@secret@h/x",
        "postgresql://u:p/secret@h/x",
        "postgresql://u:1/secret@h/x",
        "postgresql://u:p?secret@h/x",
        "postgresql://u:p%secret@h/x",
        "postgresql://u:secret",
    ],
)
def test_a_connection_string_that_is_none_names_its_variable_and_shows_nothing(value: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.require_database(None, {"DATABASE_URL": value})
    assert error.value.message == "DATABASE_URL is not a PostgreSQL connection string"
    assert "%40 %3A %2F %25" in (error.value.hint or "")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://u:%40%2F@h1:5432,h2/d?sslmode=require",
        "postgresql:///d?host=/tmp",
        "postgresql://[::1]:5432/d",
        "host=@/tmp port=5432,5433 dbname=d",
    ],
)
def test_a_connection_string_that_libpq_takes_is_taken(value: str) -> None:
    assert config.require_database(value, {}).url == value


def test_the_schema_is_flag_then_variable_then_default() -> None:
    assert config.schema("a", {"TIDEGATE_SCHEMA": "b"}) == "a"
    assert config.schema(None, {"TIDEGATE_SCHEMA": "b"}) == "b"
    assert config.schema(None, {}) == "tidegate"


@pytest.mark.parametrize(
    ("value", "seconds"), [("500ms", 0.5), ("5s", 5), ("5", 5), ("2min", 120), ("1.5 h", 5400)]
)
def test_a_duration_says_its_unit(value: str, seconds: float) -> None:
    assert config.duration("TIDEGATE_X", value) == seconds


@pytest.mark.parametrize("value", ["", "-1s", "five", "5 days", "nan"])
def test_a_bad_duration_names_variable_value_and_what_is_allowed(value: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.duration("TIDEGATE_X", value)
    assert error.value.message.startswith(f"TIDEGATE_X is {value!r}; allowed: ")


def test_the_embedded_version_is_one_of_two() -> None:
    assert config.embedded_version({}) == 18
    assert config.embedded_version({"TIDEGATE_PG": "16"}) == 16
    with pytest.raises(ConfigError, match="TIDEGATE_PG is '15'; allowed: 18, 16, or a folder"):
        config.embedded_version({"TIDEGATE_PG": "15"})


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://u:se@cr:et@h:5/d?x=1", "postgresql://u:***@h:5/d?x=1"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("host=h password=secret user=u", "host=h password=*** user=u"),
        (r"password='se cr\'et' user=u", "password=*** user=u"),
        ("postgresql://u@h/d?password=secret&x=1", "postgresql://u@h/d?password=***&x=1"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("u:secret@h/d", "u:***@h/d"),
        ("postgres//u:se@cret@h/d", "postgres//u:***@h/d"),
    ],
)
def test_a_password_is_never_shown(text: str, redacted: str) -> None:
    assert config.redact(text) == redacted
    assert "secret" not in repr(config.Database(text, "x"))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u:secret@h:5433/d", "h:5433/d"),
        ("host=/tmp user=u password=secret", "/tmp:5432/u"),
        ("", "there:5432/x"),
    ],
)
def test_where_a_database_is_can_be_told(
    url: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGPORT", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    if url:
        monkeypatch.delenv("PGDATABASE", raising=False)
    else:
        monkeypatch.setenv("PGHOST", "there")
        monkeypatch.setenv("PGDATABASE", "x")
    assert config.Database(url, "the test").place() == place


@pytest.mark.parametrize(
    ("url", "other"),
    [
        (
            "postgresql://u:p@h:5/d?sslmode=require",
            "postgresql://u:p@h:5/new%20one?sslmode=require",
        ),
        ("host=h dbname=d", "dbname='new one' host=h"),
    ],
)
def test_another_database_of_the_same_server(url: str, other: str) -> None:
    assert config.with_database(url, "new one") == other
