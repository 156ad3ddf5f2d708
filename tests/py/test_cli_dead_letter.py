"""`tidegate dead-letter`: what each command shows, does, and refuses."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest

from tests.commands import Tell, Terminal, cells, complaint, one

SMTP = "smtp 550\n\x1b[31mred"


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute(
            "select queue_create(name, '{\"max_attempts\": 1}')"
            " from unnest(array['q', 'other']) as name"
        )
        yield connection


def bury(conn: psycopg.Connection[Any], count: int, error: str = SMTP, queue: str = "q") -> None:
    """Dead letters, each of its own message."""
    for n in range(count):
        conn.execute(
            "select queue_send(%s, %s, p_headers => '{\"a\": \"b\"}', p_tenant => 'acme')",
            (queue, json.dumps({"n": n})),
        )
    conn.execute(
        "select queue_nack(lease_id, p_error => %s)"
        " from (select distinct lease_id from queue_claim(%s, 1000)) as l",
        (error, queue),
    )


def ids(conn: psycopg.Connection[Any], state: str | None = "dead") -> list[int]:
    """The entries, oldest first."""
    found = conn.execute(
        "select dead_letter_id from dead_letter_list(p_state => %s, p_limit => 1000) order by 1",
        (state,),
    )
    return [row[0] for row in found]


def test_a_list_has_pages_each_shown_as_the_next_command(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    bury(conn, 5)
    bury(conn, 2, queue="other")
    seen: list[str] = []
    words = ["dead-letter", "list", "--channel", "q", "--since", "2h", "--limit", "2"]
    for page in range(3):
        told = tell(*words)
        assert told.code == 0
        lines = told.out.splitlines()
        assert cells(lines[0])[:4] == ["id", "died", "of", "reason"]
        rows = [cells(line) for line in lines[2:] if "|" in line]
        assert all(row[2:4] == ["queue q", "exhausted"] for row in rows)
        assert all(row[-1] == "smtp 550\\n\\x1b[31mred" for row in rows)
        seen += [row[0] for row in rows]
        assert f"{len(rows)} of 5" in lines
        if page < 2:
            assert lines[-1].startswith("next page: tidegate dead-letter list --channel q ")
            words = shlex.split(lines[-1].removeprefix("next page: tidegate "))
    assert not lines[-1].startswith("next page")
    assert seen == [str(id_) for id_ in reversed(ids(conn)[:5])]


def test_a_list_for_programs_has_its_total_and_where_to_go_on(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    bury(conn, 3)
    first = json.loads(tell("dead-letter", "list", "--limit", "2", "--json").out)
    assert (first["total"], len(first["entries"])) == (3, 2)
    assert first["entries"][0]["last_error"] == SMTP
    after = ["--after", str(first["next"]["after"]), "--after-at", first["next"]["after_at"]]
    rest = json.loads(tell("dead-letter", "list", "--limit", "2", "--json", *after).out)
    assert (rest["total"], len(rest["entries"]), rest["next"]) == (3, 1, None)


def test_the_next_command_shows_no_password(
    database: str, tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    bury(conn, 2)
    info = conn.info
    url = f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"
    told = tell("dead-letter", "list", "--limit", "1", "--database-url", url)
    assert "--database-url 'postgresql://" in told.out
    assert str(info.password) not in told.out


def test_each_filter_filters(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    bury(conn, 1)
    conn.execute("select queue_send('other', '1', p_run_id => 'r')")
    conn.execute("select queue_nack(lease_id, p_retryable => false) from queue_claim('other')")
    now = datetime.now(timezone.utc).isoformat()
    for words, total in (
        ("", 2),
        ("--channel other", 1),
        ("--reason not_retryable", 1),
        ("--tenant acme", 1),
        ("--run-id r", 1),
        ("--since 1h", 2),
        (f"--since {now}", 0),
        (f"--until {now}", 2),
        ("--until 7d", 0),
        ("--state resolved", 0),
        ("--state any", 2),
    ):
        told = tell("dead-letter", "list", "--json", *words.split())
        assert json.loads(told.out)["total"] == total, words
    assert tell("dead-letter", "list", "--state", "resolved").out == "no resolved dead letters\n"
    conn.execute("select dead_letter_discard(array[%s], 'x')" % ids(conn)[0])  # noqa: UP031
    head, _, *rows = map(cells, tell("dead-letter", "list", "--state", "any").out.splitlines())
    assert "state" in head
    assert {row[2] for row in rows[:2]} == {"dead", "discarded"}


def test_show_has_the_payload_and_what_each_attempt_met(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_send('q', '{\"price\": 10.00}', p_max_attempts => 2)")
    for error in ("first", SMTP):
        conn.execute(
            "select queue_nack(lease_id, p_error => %s, p_retry_in => '0') from queue_claim('q')",
            (error,),
        )
    entry = ids(conn)[0]
    conn.execute("select dead_letter_discard(array[%s::bigint], 'why not')", (entry,))
    out = tell("dead-letter", "show", str(entry)).out
    assert out.startswith(f"dead letter {entry}\n  state     discarded\n")
    assert '\n  payload   {"price": 10.00}\n' in out
    assert "\n  attempt 1 at " in out
    assert ": first\n  attempt 2 at " in out
    assert ": smtp 550\\n\\x1b[31mred\n  discard at " in out
    assert out.endswith(": why not\n")
    assert "\x1b" not in out
    as_json = tell("dead-letter", "show", str(entry), "--json").out
    assert '"payload":{"price": 10.00}' in as_json
    assert json.loads(as_json)["errors"][1]["error"] == SMTP
    assert "there is no dead letter 999999" in complaint(tell("dead-letter", "show", "999999"))


def test_a_large_payload_is_shown_too(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select queue_send('q', to_jsonb(repeat('x', 5000)))")
    conn.execute("select queue_nack(lease_id) from queue_claim('q')")
    entry = str(ids(conn)[0])
    assert "x" * 5000 in tell("dead-letter", "show", entry).out
    assert json.loads(tell("dead-letter", "show", entry, "--json").out)["payload"] == "x" * 5000


def test_a_requeue_by_id_says_what_became_of_each(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    bury(conn, 2)
    first, second = ids(conn)
    told = tell("dead-letter", "requeue", str(first), "--note", "smtp is back")
    assert (told.code, told.out.splitlines()[2].split()[-1]) == (0, "requeued")
    again = tell("dead-letter", "requeue", str(first), str(second), "--json")
    outcomes = {row["dead_letter_id"]: row["outcome"] for row in json.loads(again.out)}
    assert (again.code, outcomes) == (0, {first: "already_requeued", second: "requeued"})
    told = tell("dead-letter", "requeue", "999999")
    assert (told.code, cells(told.out.splitlines()[2])) == (1, ["999999", "", "unknown"])
    assert one(conn, "select ready from backlog where name = 'q'") == (2,)
    assert "smtp is back" in tell("dead-letter", "show", str(first)).out


def test_a_requeue_keeps_attempts_when_told_to(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    bury(conn, 2)
    first, second = ids(conn)
    tell("dead-letter", "requeue", str(first))
    tell("dead-letter", "requeue", str(second), "--keep-attempts")
    attempts = [row[0] for row in conn.execute("select attempts from queue_peek('q') order by 1")]
    assert attempts == [0, 1]


def test_a_requeue_of_what_matches_has_a_dry_run_a_limit_and_a_pace(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    bury(conn, 5)
    bury(conn, 1, queue="other")
    matching = ("dead-letter", "requeue", "--channel", "q")
    assert tell(*matching, "--dry-run").out == "5 would be requeued\n"
    assert len(ids(conn)) == 6
    told = tell(*matching, "--limit", "2").out.splitlines()
    assert told == ["2 requeued", "there may be more than the 2 of --limit: run it again"]
    paced = tell(*matching, "--per-second", "0.001").out
    assert paced.startswith("3 requeued, the last of them due at 2")
    assert one(conn, "select scheduled from backlog where name = 'q'") == (2,)
    as_json = json.loads(tell("dead-letter", "requeue", "--all", "--json").out)
    assert (as_json["requeued"], as_json["busy"]) == (1, 0)
    assert tell(*matching).out == "0 requeued\n"


def test_what_cannot_go_back_is_counted_with_why(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select queue_send('q', '1', p_job_key => 'j')")
    conn.execute("select queue_nack(lease_id) from queue_claim('q')")
    conn.execute("select queue_send('q', '2', p_job_key => 'j')")
    bury(conn, 1, queue="other")
    conn.execute("select queue_drop('other')")
    assert tell("dead-letter", "requeue", "--all").out.splitlines() == [
        "0 requeued",
        "1 stay: a message with their job key is alive",
        "1 stay: their queue or topic was dropped",
    ]


def test_a_discard_needs_a_reason_and_a_yes(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    bury(conn, 4)
    first, second, *_ = map(str, ids(conn))
    told = tell("dead-letter", "discard", first)
    assert (told.code, told.out) == (2, "")
    assert "Missing option '--note'" in told.err
    note = ("--note", "test orders")
    for words in ([first], ["--all"], ["--channel", "q"]):
        told = tell("dead-letter", "discard", *words, *note)
        assert "say --yes" in complaint(told, 2)
    assert len(ids(conn)) == 4
    assert tell("dead-letter", "discard", first, *note, "--yes").code == 0
    told = tell("dead-letter", "discard", first, second, "9999", *note, "--yes", "--json")
    outcomes = [row["outcome"] for row in json.loads(told.out)]
    assert (told.code, outcomes) == (1, ["already_discarded", "discarded", "unknown"])
    some = ("dead-letter", "discard", "--channel", "q", *note)
    assert tell(*some, "--dry-run").out == "2 would be discarded\n"
    assert tell(*some, "--yes", "--limit", "1").out.splitlines()[0] == "1 discarded"
    assert json.loads(tell(*some, "--yes", "--json").out) == {"discarded": 1}
    assert ids(conn) == []
    assert "discard at" in tell("dead-letter", "show", first).out


def test_on_a_terminal_a_discard_says_how_many_and_asks(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    bury(conn, 3)
    for answer, code, left in (("n", 1, 3), ("y", 0, 0)):
        terminal = Terminal(database, "dead-letter", "discard", "--all", "--note", "x")
        terminal.until("[y/N]: ")
        assert "Discard 3 dead letters?" in terminal.seen
        terminal.type(answer)
        assert terminal.end() == code
        assert len(ids(conn)) == left


def test_stats_count_by_reason_channel_and_error(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    bury(conn, 2)
    bury(conn, 1, error="smtp 421", queue="other")
    tell("dead-letter", "requeue", str(ids(conn)[0]))
    head, _, *rows = map(cells, tell("dead-letter", "stats").out.splitlines())
    assert head[:4] == ["by", "name", "dead", "since"]
    counted = {(row[0], row[1]): (row[2], row[4]) for row in rows}
    assert counted[("total", "")] == ("2", "1")
    assert counted[("queue", "q")] == ("1", "1")
    assert counted[("reason", "exhausted")] == ("2", "1")
    as_json = json.loads(tell("dead-letter", "stats", "--json").out)
    assert as_json[0]["dead"] == 2


MISTAKES = [
    ("list --state sleeping", 2, "sleeping"),
    ("list --reason sad", 1, "p_reason is 'sad'"),
    ("list --since yesterday", 2, "--since is 'yesterday'"),
    ("list --limit 0", 2, "--limit"),
    ("list --after 999999", 1, "p_after_id is '999999'"),
    ("list --after-at 2030-01-01T00:00:00Z", 1, "p_after_id is null"),
    ("list --schema elsewhere", 1, "tidegate migrate"),
    ("show", 2, "DEAD_LETTER_ID"),
    ("show seven", 2, "seven"),
    ("requeue", 2, "nothing says which dead letters"),
    ("requeue 1 --all", 2, "too much says which"),
    ("requeue --all --channel q", 2, "too much says which"),
    ("requeue 1 --dry-run", 2, "--dry-run and --per-second are for what filters find"),
    ("requeue --all --limit 0", 1, "p_limit is '0'"),
    ("requeue --all --per-second 0", 1, "p_per_second is '0'"),
    ("requeue --reason sad", 1, "p_reason is 'sad'"),
    ("discard --note x", 2, "nothing says which dead letters"),
    ("discard 1 --note x --dry-run", 2, "--dry-run is for what filters find"),
    ("discard --all --note= --yes", 1, "p_note is ''"),
    ("discard 1 --note= --yes", 1, "p_reason is ''"),
]


@pytest.mark.parametrize(("words", "code", "said"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_told_with_what_was_seen(
    tell: Tell, conn: psycopg.Connection[Any], words: str, code: int, said: str
) -> None:
    told = tell("dead-letter", *words.split())
    assert (told.code, told.out) == (code, "")
    assert said in told.err
    assert "Traceback" not in told.err


def test_a_database_that_is_down_is_told_without_its_password(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyshim.connect.FIRST_DELAY", 0)
    url = "postgresql://u:hunter2@127.0.0.1:1/x"
    told = tell("dead-letter", "requeue", "--all", "--database-url", url)
    assert (told.code, told.out) == (1, "")
    assert "cannot connect" in told.err
    assert "hunter2" not in told.err
