"""`tidegate queue`: what each command does, says, and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pyshim import console
from tests.commands import Tell, Terminal, cells, complaint, one


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select queue_create('q')")
        yield connection


def test_a_list_shows_what_stands_where_and_what_is_stopped(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_create('a'), queue_create('paused'), topic_create('t')")
    conn.execute("select queue_send('a', '1'), queue_send('a', '2', p_run_at => now() + '9 days')")
    conn.execute("select queue_send('a', '3', p_group_key => 'g') from generate_series(1, 3)")
    conn.execute("select from queue_claim('a', 1)")
    conn.execute("select queue_pause('paused'), queue_drain('paused')")
    told = tell("queue", "list")
    assert told.code == 0
    head, _, *rows = map(cells, told.out.splitlines())
    assert head[:5] == ["queue", "ready", "scheduled", "blocked", "leased"]
    assert [row[0] for row in rows] == ["a", "paused", "q"]
    assert sum(map(int, rows[0][1:5])) == 5
    assert rows[0][2] == "1"
    assert rows[0][6] in ("in 9d", "in 8d")
    assert rows[1][7] == "paused draining"
    as_json = json.loads(tell("queue", "list", "--json").out)
    assert [row["name"] for row in as_json] == ["a", "paused", "q"]
    assert (as_json[0]["scheduled"], as_json[1]["is_paused"]) == (1, True)


def test_a_list_says_what_is_overdue_and_no_instant_breaks_it(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_create('far'), queue_create('late')")
    conn.execute(
        "select queue_send('far', '1', p_run_at => now() + '1d'),"
        " queue_send('late', '1', p_run_at => now() + '1d')"
    )
    # given what is due when no datetime can say it, and what nobody has moved yet
    conn.execute(
        "update scheduled set due_at = case payload_of when 'far' then 'infinity'"
        " else now() - interval '90 s' end from (select channel_id as id, name as payload_of"
        " from channel) c where c.id = channel_id"
    )
    rows = {row[0]: row for row in map(cells, tell("queue", "list").out.splitlines())}
    assert rows["queue"][5:] == ["oldest", "next due", "state"]
    assert rows["far"][6] == "never"
    assert rows["late"][6] in ("90s ago", "91s ago", "92s ago")
    assert json.loads(tell("queue", "list", "--json").out)[0]["next_due_at"] == "infinity"


@pytest.mark.parametrize(
    ("when", "minutes"), [("15min", 15), (" 2 h ", 120), ("7d", 7 * 1440), ("900s", 15)]
)
def test_a_run_at_may_be_a_delay_from_now(
    tell: Tell, conn: psycopg.Connection[Any], when: str, minutes: int
) -> None:
    assert tell("queue", "send", "q", "1", "--run-at", when).code == 0
    due = "extract(epoch from next_due_at - now()) / 60"
    (left,) = one(conn, f"select {due} from backlog where name = 'q'")
    assert minutes - 1 < left <= minutes


def test_without_queues_a_list_says_how_to_make_one(tell: Tell) -> None:
    assert tell("queue", "list").out == "no queues: tidegate queue create NAME makes one\n"
    assert json.loads(tell("queue", "list", "--json").out) == []


def test_a_policy_is_given_as_keys_and_values(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    told = tell("queue", "create", "new", "lease=2min", "max_attempts=8", "max_in_flight=20")
    assert told.out == 'queue new is set up: lease "2min", max_attempts 8, max_in_flight 20\n'
    assert tell("queue", "create", "new").code == 0
    told = tell("queue", "configure", "new", "max_in_flight=null", "archive=true", "--json")
    assert json.loads(told.out) == {"queue": "new", "max_in_flight": None, "archive": True}
    row = one(
        conn,
        "select lease::text, max_attempts, max_in_flight, archive from channel where name = 'new'",
    )
    assert row == ("00:02:00", 8, None, True)


def test_pause_resume_and_drain(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    look = "select is_paused, is_draining from backlog where name = 'q'"
    assert "hands none out" in tell("queue", "pause", "q").out
    assert one(conn, look) == (True, False)
    assert "refuses sends" in tell("queue", "drain", "q").out
    assert "draining" in complaint(tell("queue", "send", "q", "1"))
    assert json.loads(tell("queue", "resume", "q", "--json").out) == {"queue": "q", "did": "resume"}
    assert one(conn, look) == (False, False)


def test_a_payload_comes_as_an_argument_or_from_standard_input(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    told = tell("queue", "send", "q", '{"price": 10.00}')
    assert (told.code, told.out.split()[0], told.out.split()[2]) == (0, "message", "inserted")
    assert tell("queue", "send", "q", stdin='\ufeff{\n  "n": "é€😀"\n}\n').code == 0
    assert tell("queue", "send", "q", "-", stdin="[1, 1e400]").code == 0
    sent = json.loads(tell("queue", "send", "q", '"x"', "--json").out)
    assert sent["outcome"] == "inserted"
    texts = [row[0] for row in conn.execute("select payload::text from queue_claim('q', 9)")]
    assert texts[:2] == ['{"price": 10.00}', '{"n": "é€😀"}']
    assert texts[2].startswith("[1, 1000000")
    assert texts[3] == '"x"'


def test_a_send_passes_its_options_on(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    options = "--header a=b=c --header traceparent=t --priority 3 --group-key g --tenant acme"
    options += " --run-id r --max-attempts 1 --idempotency-key k"
    first = tell("queue", "send", "q", "1", *options.split()).out
    again = tell("queue", "send", "q", "1", *options.split()).out
    assert again == first.replace("inserted", "deduplicated")
    row = one(
        conn,
        "select headers, priority, group_key, tenant, run_id, max_attempts from queue_claim('q')",
    )
    assert row == ({"a": "b=c", "traceparent": "t"}, 3, "g", "acme", "r", 1)
    assert tell("queue", "send", "q", "1", "--run-at", "2100-01-01T00:00:00Z").code == 0
    assert one(conn, "select next_due_at from backlog where name = 'q'")[0].year == 2100
    for outcome, mode in (("inserted", []), ("replaced", []), ("deduplicated", ["dedupe"])):
        mode = mode and ["--key-mode", *mode]
        assert outcome in tell("queue", "send", "q", "1", "--job-key", "j", *mode).out


def test_lines_are_one_transaction_and_may_be_repeated_under_a_key(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    lines = "".join(f'{{"n": {n}}}\n\n' for n in range(2500))
    send = ("queue", "send", "q", "--lines")
    assert tell(*send, stdin=lines).out == "2500 messages: 2500 inserted\n"
    keyed = (*send, "--idempotency-key", "k", "--json")
    assert json.loads(tell(*keyed, stdin=lines).out) == {"sent": 2500, "inserted": 2500}
    assert json.loads(tell(*keyed, stdin=lines).out) == {"sent": 2500, "deduplicated": 2500}
    assert one(conn, "select ready from backlog where name = 'q'") == (5000,)
    # when the last of them is no JSON
    told = tell(*send, stdin=lines + '{"n": NaN}')
    # then it is named, and none was sent
    assert "line 5001 is not JSON: JSON has no NaN" in complaint(told, 2)
    assert one(conn, "select ready from backlog where name = 'q'") == (5000,)
    assert tell(*send).out == "0 messages\n"


def test_a_peek_shows_messages_and_takes_none(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select queue_send('q', '{\"price\": 10.00}', p_tenant => E'a\\x1b[31m')")
    conn.execute("select queue_send('q', to_jsonb(repeat('é', 9999)))")
    for _ in range(2):
        told = tell("queue", "peek", "q")
        rows = [cells(line) for line in told.out.splitlines()[2:]]
        assert [row[-1] for row in rows] == ['{"price": 10.00}', '"' + "é" * 198 + "…"]
        assert rows[0][-2] == "a\\x1b[31m"
    assert len(told.out.splitlines()) == 4
    told = tell("queue", "peek", "q", "--limit", "1", "--json")
    assert '"payload":{"price": 10.00}' in told.out
    assert len(json.loads(told.out)) == 1
    assert len(json.loads(tell("queue", "peek", "q", "--json").out)[1]["payload"]) == 9999
    assert tell("queue", "peek", "q", "--place", "lease").out == "nothing is leased in queue q\n"


def test_a_locale_without_the_letters_is_no_obstacle(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_send('q', '\"\u20ac\"')")
    environment = {
        **os.environ,
        "TIDEGATE_DATABASE_URL": database,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONIOENCODING": "latin-1",
    }
    peek = [sys.executable, "-m", "pyshim", "queue", "peek", "q"]
    seen = subprocess.run(peek, env=environment, capture_output=True, check=True).stdout
    assert b'"\\u20ac"' in seen
    seen = subprocess.run(
        [*peek, "--json"], env=environment, capture_output=True, check=True
    ).stdout
    assert json.loads(seen.decode())[0]["payload"] == "\u20ac"


def test_a_cancel_says_what_became_of_each(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select queue_send('q', '1'), queue_send('q', '2', p_job_key => 'j')")
    ids = [row["message_id"] for row in json.loads(tell("queue", "peek", "q", "--json").out)]
    told = tell("queue", "cancel", "q", str(ids[0]), "999999")
    assert told.code == 1
    assert [cells(line) for line in told.out.splitlines()[2:]] == [
        [str(ids[0]), "cancelled"],
        ["999999", "unknown"],
    ]
    conn.execute("select from queue_claim('q')")
    told = tell("queue", "cancel", "q", "--job-key", "j", "--json")
    assert (told.code, json.loads(told.out)[0]["outcome"]) == (0, "leased")
    for words in ([], ["1", "--job-key", "j"]):
        assert "what to cancel" in complaint(tell("queue", "cancel", "q", *words), 2)


def test_a_purge_moves_what_waits_and_needs_a_yes(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_send('q', '1') from generate_series(1, 3)")
    assert "say --yes" in complaint(tell("queue", "purge", "q"), 2)
    assert one(conn, "select ready from backlog where name = 'q'") == (3,)
    told = tell("queue", "purge", "q", "--yes")
    assert told.out == "3 messages of queue q are dead letters now\n"
    conn.execute("select queue_send('q', '1')")
    told = tell("queue", "purge", "q", "--to", "discard", "--yes", "--json")
    assert json.loads(told.out) == {"queue": "q", "purged": 1, "to": "discard"}
    assert one(conn, "select dead_letter_count(p_state => null)") == (3,)


def test_a_drop_refuses_while_messages_would_be_lost(
    tell: Tell, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_send('q', '1')")
    assert "say --yes" in complaint(tell("queue", "drop", "q"), 2)
    told = complaint(tell("queue", "drop", "q", "--yes"))
    assert "holds 1 message" in told
    assert "queue drop q --yes --to dead_letter keeps them" in told
    assert "p_to" not in told
    assert tell("queue", "drop", "q", "--to", "dead_letter", "--yes").out == "queue q is dropped\n"
    assert one(conn, "select count(*) from backlog") == (0,)
    assert one(conn, "select dead_letter_count()") == (1,)


MISTAKES: list[tuple[str, int, str, str]] = [
    ("send nope 1", 1, "", "no queue named 'nope'"),
    ("send q {to}", 2, "", "PAYLOAD is not JSON"),
    ("send q NaN", 2, "", "JSON has no NaN"),
    ("send q", 2, "", "standard input is not JSON"),
    ("send q", 2, "[" * 100_000, "standard input is not JSON"),
    ("send q 1 --lines", 2, "", "--lines reads standard input"),
    ("send q --lines", 2, "1\n\n{\n", "line 3 is not JSON"),
    ("send q --lines --job-key j", 2, "1\n", "would leave one message"),
    ("send q 1 --header a", 2, "", "--header is 'a'"),
    ("send q 1 --run-at soon", 2, "", "--run-at is 'soon'"),
    ("send q 1 --run-at 99999999999d", 2, "", "--run-at is '99999999999d'"),
    ("send q 1 --run-at 2100-01-01T00:00:00", 2, "", "without a time zone"),
    ("send q 1 --priority 10", 1, "", "p_priority is '10'"),
    ('send q "\\u0000"', 2, "", "PAYLOAD holds \\u0000"),
    ('send q "\\ud83d"', 2, "", "PAYLOAD holds \\ud83d"),
    ("configure nope lease=1min", 1, "", "no queue named 'nope'"),
    ("configure q leese=1min", 1, "", "a key of p_policy is 'leese'"),
    ("configure q lease=soon", 1, "", "soon"),
    ("configure q lease", 2, "", "'lease' is no KEY=VALUE"),
    ("create q lease=1min lease=2min", 2, "", "named twice"),
    ("create a/b", 1, "", "p_queue is 'a/b'"),
    ("pause nope", 1, "", "no queue named 'nope'"),
    ("resume nope", 1, "", "no queue named 'nope'"),
    ("drain nope", 1, "", "no queue named 'nope'"),
    ("purge nope --yes", 1, "", "no queue named 'nope'"),
    ("drop nope --yes", 1, "", "no queue named 'nope'"),
    ("peek nope", 1, "", "no queue named 'nope'"),
    ("peek q --limit 0", 1, "", "p_limit is '0'"),
    ("cancel nope 1", 1, "", "no queue named 'nope'"),
    ("list --schema elsewhere", 1, "", "tidegate migrate"),
    ("send q 1 --schema elsewhere", 1, "", "tidegate migrate"),
    ("list --timeout soon", 2, "", "'soon'"),
]


@pytest.mark.parametrize(
    ("words", "code", "stdin", "said"), MISTAKES, ids=[f"{m[0]} {m[2][:9]}" for m in MISTAKES]
)
def test_a_mistake_is_one_clear_line(
    tell: Tell, conn: psycopg.Connection[Any], words: str, code: int, stdin: str, said: str
) -> None:
    assert said in complaint(tell("queue", *words.split(), stdin=stdin), code)


def test_input_that_is_not_utf_8_is_told(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    told = tell("queue", "send", "q", "--lines", stdin=b'1\n"\xff"\n')
    assert "standard input is not UTF-8" in complaint(told, 2)
    assert one(conn, "select ready from backlog where name = 'q'") == (0,)


def test_a_database_that_is_down_is_told_without_its_password(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyshim.connect.ATTEMPTS", 1)
    monkeypatch.setattr("pyshim.connect.FIRST_DELAY", 0)
    url = "postgresql://u:hunter2@127.0.0.1:1/x"
    for words in (["list"], ["send", "q", "1"]):
        told = tell("queue", *words, "--database-url", url)
        assert (told.code, told.out) == (1, "")
        assert "tidegate: cannot connect to the database named by --database-url" in told.err
        assert "hunter2" not in told.err


def test_a_call_that_takes_too_long_says_so(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select queue_send('q', '1')")
    with conn.transaction():
        conn.execute("lock table channel in access exclusive mode")
        for words in (["purge", "q", "--yes"], ["send", "q", "1"]):
            told = complaint(tell("queue", *words, "--timeout", "200ms"))
            assert "not done within 0.2 s, and nothing was changed" in told
            assert "--timeout" in told


def test_on_a_terminal_it_asks_and_takes_no_for_an_answer(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_send('q', '1'), queue_send('q', '2')")
    for answer, code, left in (("n", 1, 2), ("y", 0, 0)):
        terminal = Terminal(database, "queue", "purge", "q")
        terminal.until("[y/N]: ")
        assert "Take 2 messages out of queue q, and keep it as dead letters?" in terminal.seen
        terminal.type(answer)
        assert terminal.end() == code, terminal.seen
        assert one(conn, "select ready from backlog where name = 'q'") == (left,)


def test_on_a_terminal_a_table_is_cut_to_its_width(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_send('q', to_jsonb(repeat('語', 99)))")
    terminal = Terminal(database, "queue", "peek", "q")
    assert terminal.end() == 0
    lines = terminal.seen.splitlines()
    assert len(lines) == 3
    assert all(console._width(line) <= 60 for line in lines)
    assert lines[2].endswith("…")


def test_on_a_terminal_a_missing_payload_is_not_waited_for(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    terminal = Terminal(database, "queue", "send", "q")
    assert terminal.end() == 2
    assert "there is no payload" in terminal.seen
