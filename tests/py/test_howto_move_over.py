"""The pages of docs/howto/move-over are tried, on tables such as they print."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.py.test_howto import conn, snippets, typed, until, url

__all__ = ["conn", "typed", "url"]

(PREPARE,) = snippets("move-over.md", "sql")
Db = psycopg.Connection[Any]


@pytest.fixture
def db(url: str) -> Iterator[Db]:
    """As whoever moves: jobs is installed, the old tables are on the search path."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(PREPARE.encode())
        yield connection


def run(db: Db, *blocks: str) -> None:
    for block in blocks:
        db.execute(block.encode())


def rows(db: Db, query: str) -> list[tuple[Any, ...]]:
    return db.execute(query.encode()).fetchall()


def value(db: Db, query: str) -> Any:
    ((answer,),) = rows(db, query)
    return answer


def checked(db: Db, block: str) -> dict[str, Any]:
    """What the statement under "Check" says."""
    cursor = db.execute(block.encode())
    (row,) = cursor.fetchall()
    assert cursor.description
    return {
        column.name: int(number) for column, number in zip(cursor.description, row, strict=True)
    }


# hover


HOVER = snippets("move-over/hover.md", "sql")
TASKS = """
    insert into task_outbox (
        task_id, job_id, page_id, host, path, priority, source_type, run_at, attempts
    )
    select 't-' || n, 'job-' || n % 3, n, 'example.org', '/' || n, n % 10 / 9.0, 'sitemap',
        now() + case when n % 10 = 0 then interval '1 hour' else interval '0' end, n % 4
    from generate_series(1, {}) as n
"""


def test_hover(db: Db) -> None:
    tables, topic, put, functions, loop, check, back, back_loop = HOVER
    run(db, tables, topic, TASKS.format(1200))
    run(
        db,
        "insert into task_outbox_dead (original_id, task_id, job_id, page_id, host, path, priority,"
        " source_type, run_at, attempts, created_at, dead_lettered_at, last_error)"
        " values (7, 't-x', 'job-1', 7, 'example.org', '/x', 1, 'sitemap', now(), 10,"
        " '2026-01-01Z', '2026-01-02Z', 'redis: connection refused')",
    )
    before = rows(db, "select task_id, job_id, path, priority, run_at from task_outbox order by id")
    # given producers that have been switched, and an old sweeper with a batch in hand
    run(db, put, functions)
    with psycopg.connect(db.info.dsn, password=db.info.password or None) as sweeper:
        sweeper.execute("select from task_outbox where path in ('/1', '/2') for update")
        # when it is moved
        run(db, loop)
        # then what is in hand is left, and what is moved waits here, dead ones as dead letters
        assert checked(db, check) == {
            "left_behind": 2,
            "moved": 1198,
            "waiting": 1199,
            "dead_left_behind": 0,
            "dead_moved": 1,
            "dead": 1,
        }
        sweeper.execute("delete from task_outbox where path = '/1'")
    run(db, loop, loop)
    assert checked(db, check) | {"moved": 1199, "waiting": 1200} == checked(db, check)
    assert value(db, "select scheduled from jobs.backlog") == 120
    dead = rows(
        db,
        "select run_id, attempts, last_error, h.at from jobs.dead_letter_list() d"
        " cross join jobs.dead_letter_history(d.dead_letter_id) h where h.at = '2026-01-02Z'",
    )
    assert [row[:3] for row in dead] == [("job-1", 10, "redis: connection refused")]
    # and a cancel of the job takes what waits of it
    (claimed,) = rows(
        db, "select payload, headers, priority, run_id from jobs.outbox_claim('tasks', 1)"
    )
    assert claimed[2] == 0 and claimed[0]["priority"] == 1
    assert {"task_id", "host", "path", "retry_count", "task_type"} < claimed[0].keys()
    # and the rest can be put back as it was, but for what is not due
    run(db, back, back_loop)
    put_back = rows(
        db, "select task_id, job_id, path, priority, run_at from task_outbox order by task_id"
    )
    assert len(put_back) == 1200 - 120 - 1
    assert set(put_back) - set(before) == {row for row in put_back if row[0] == "t-100"}
    assert value(db, "select scheduled from jobs.backlog") == 120


@pytest.mark.slow
def test_whoever_moves_may_be_killed_at_any_moment(db: Db) -> None:
    tables, topic, _, functions, loop, *_ = HOVER
    run(db, tables, topic, functions, TASKS.format(3000))
    small = loop.replace("move.outbox()", "move.outbox(20)")
    assert small != loop
    kills = 0
    while value(db, "select count(*) from task_outbox") > 0:
        wanted = value(db, "select count(*) from move.done") + 400
        mover = psycopg.connect(db.info.dsn, password=db.info.password or None, autocommit=True)
        mover.pgconn.send_query(small.encode())

        def is_far(wanted: int = wanted) -> bool:
            moved = value(db, "select count(*) from move.done")
            return bool(moved >= min(wanted, 3000))

        until(is_far)
        db.execute("select pg_terminate_backend(%s, 60000)", (mover.info.backend_pid,))
        mover.pgconn.finish()
        kills += 1
        # whatever it was at: a row is in one place
        moved = value(db, "select count(*) from move.done")
        assert value(db, "select count(*) from task_outbox") + moved == 3000
        assert value(db, "select ready + scheduled from jobs.backlog") == moved
    assert kills > 2
    assert value(db, "select count(distinct payload ->> 'task_id') from jobs.ready") == 2700


# gamemesh


def test_gamemesh(db: Db) -> None:
    blocks = snippets("move-over/gamemesh.md", "sql")
    tables, topics, put, functions, loop, check, back, back_loop = blocks
    trace = '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}'
    run(
        db,
        tables,
        f"""
        insert into outbox_events (
            id, event_type, topic, payload, carrier, status, attempt_count, last_error
        )
        select gen_random_uuid(), 'PlayerRegistered',
            case n % 2 when 0 then 'events.player' else 'events.match' end,
            jsonb_build_object('n', n), '{trace}',
            (array['PENDING', 'PENDING', 'PUBLISHED', 'FAILED'])[1 + n % 4], n % 4,
            case n % 4 when 3 then 'nats: no response' else '' end
        from generate_series(1, 40) as n
        """,
        topics,
        put,
        functions,
    )
    known = dict(rows(db, "select id, payload from outbox_events where status = 'PENDING'"))
    run(db, loop, loop)
    assert checked(db, check) == {
        "left_behind": 0,
        "moved": 20,
        "waiting": 21,
        "failed_left_behind": 0,
        "failed_moved": 10,
        "dead": 10,
    }
    assert value(db, "select count(*) from outbox_events") == 10
    dead = rows(db, "select distinct reason, last_error, attempts from jobs.dead_letter_list()")
    assert dead == [("exhausted", "nats: no response", 3)]
    claimed = rows(
        db, "select event_id, payload, headers from jobs.outbox_claim('events.match', 100)"
    )
    assert {event: payload for event, payload, _ in claimed}.items() <= known.items()
    assert claimed[0][2] == json.loads(trace) | {"event_type": "PlayerRegistered"}
    run(db, "select jobs.outbox_release(lease_id) from jobs.in_flight", back, back_loop)
    assert value(db, "select count(*) from outbox_events where status = 'PENDING'") == 11
    assert value(db, "select count(*) from outbox_events where payload = '{\"player_id\": 7}'") == 1


# unstract


def message(task: str, **kwargs: Any) -> str:
    return json.dumps(
        {"task_name": task, "args": [], "kwargs": kwargs, "queue": "files", "fairness": None}
    )


def test_unstract(db: Db) -> None:
    blocks = snippets("move-over/unstract.md", "sql")
    tables, queues, send, barrier, barriers, claims, functions, loop, check, back, back_loop = (
        blocks
    )
    run(db, tables)
    callback = {"task_name": "process_batch_callback", "queue": "callbacks", "kwargs": {"x": 1}}
    insert = (
        "insert into pg_queue_message (queue_name, message, org_id, priority, read_ct, state, vt)"
        " values (%s, %s, 'acme', %s, %s, %s, now() + %s::interval)"
    )
    plain = message("async_execute_bin", execution_id="e-9")
    for priority, read, state, delay in (
        (5, 0, "ready", "0"),
        (10, 2, "ready", "0"),
        (1, 0, "ready", "1 hour"),
        (5, 1, "claimed", "1 minute"),
        (5, 5, "ready", "0"),
    ):
        db.execute(insert, ("celery", plain, priority, read, state, delay))
    # e-1 has a result, and two batches to do; one of e-2's is with a worker
    for execution, batches in (("e-1", (1, 2)), ("e-2", (0, 1))):
        for index in batches:
            context = {"execution_id": execution, "batch_index": index}
            batch = message(
                "process_file_batch",
                execution_id=execution,
                _barrier_context=context | {"callback_descriptor": callback},
            )
            state = "claimed" if (execution, index) == ("e-2", 1) else "ready"
            db.execute(insert, ("files", batch, 5, 0, state, "0"))
    run(
        db,
        """
        insert into pg_barrier_state (
            execution_id, organization_id, remaining, results, expires_at
        ) values
            ('e-1', 'acme', 2, '[{"ok": 7}]', now() + interval '5 hours'),
            ('e-2', 'acme', 2, '[]', now() + interval '5 hours');
        insert into pg_batch_dedup (execution_id, batch_index) values ('e-1', 0), ('e-2', 1);
        insert into pg_orchestration_claim (execution_id) values ('e-1'), ('e-2'), ('e-9');
        """,
        queues,
        send,
        barrier,
        barriers,
        claims,
        functions,
        loop,
        loop,
    )
    # then what is with a worker, and what belongs to it, was left
    assert checked(db, check) == {
        "left_behind": 1 + 2,
        "moved": 4 + 2,
        "waiting": 1 + 3 + 2,
        "dead": 1,
        "barriers_left": 1,
        "barriers": 1,
    }
    assert value(db, "select array_agg(execution_id) from pg_orchestration_claim") == ["e-9"]
    asked = "select outcome from jobs.guard_claim('orchestration', '{}', 'a worker')"
    assert (value(db, asked.format("e-1")), value(db, asked.format("e-9"))) == ("done", "won")
    first = rows(
        db, "select priority, max_attempts, tenant, run_id, headers from jobs.queue_claim('celery')"
    )
    assert first == [(0, 3, "acme", "e-9", {"task": "async_execute_bin"})]
    # and the barrier fires with the old result and the new ones
    assert value(db, "select outstanding from jobs.barrier_status('e-1')") == 2
    run(
        db,
        "select jobs.queue_ack(c.lease_id, array[c.message_id],"
        " c.payload #> '{kwargs,_barrier_context,batch_index}')"
        " from jobs.queue_claim('files', 9) c",
    )
    ((fired,),) = rows(db, "select payload from jobs.queue_claim('callbacks')")
    assert fired["payload"] == callback
    assert fired["results"] == [1, 2, {"ok": 7}]
    # and what waits can be put back, with the reads it had
    run(db, "select jobs.queue_release(lease_id) from jobs.in_flight where name = 'celery'")
    run(db, back, back_loop)
    left = rows(
        db,
        "select priority, read_ct, vt > now() + interval '50 min' from pg_queue_message"
        " where queue_name = 'celery' and state = 'ready' order by priority, read_ct",
    )
    assert left == [(1, 0, True), (5, 0, False), (5, 0, False), (10, 2, False)]


# graphile-worker and backfill


GRAPHILE = snippets("move-over/graphile-worker.md", "sql")
BACKFILL = snippets("move-over/backfill.md", "sql")
CLAMPED = "least(greatest(j.priority, 0), 9)"


def some_jobs(db: Db) -> None:
    """Jobs of every kind, in tables as both have them."""
    run(
        db,
        r"""
        insert into graphile_worker._private_tasks (identifier) values ('send_email'), ('report');
        insert into graphile_worker._private_job_queues (queue_name) values ('ada'), ('busy');
        insert into graphile_worker._private_jobs (
            task_id, payload, job_queue_id, priority, run_at, attempts, max_attempts, last_error,
            key, locked_at, locked_by
        )
        select
            (select id from graphile_worker._private_tasks where identifier = j.task),
            j.payload::json,
            (select id from graphile_worker._private_job_queues where queue_name = j.queue),
            j.priority, now() + j.delay::interval, j.attempts, j.max_attempts, j.error, j.key,
            case when j.is_locked then now() end, case when j.is_locked then 'worker-1' end
        from (values
            ('send_email', '{"n": 1}', null, 0, '0', 0, 25, null, null, false),
            ('send_email', '{"n": 2}', null, -5, '0', 3, 25, 'smtp 421', 'key 2', false),
            ('report', '{"n": 3}', null, 30, '1 hour', 0, 25, null, 'key 3', false),
            ('report', '{"n": 4}', null, 0, '0', 1, 25, null, null, true),
            ('send_email', '{"n": 5}', 'ada', 0, '0', 0, 25, null, null, false),
            ('send_email', '{"n": 6}', 'ada', 0, '0', 0, 25, null, null, false),
            ('send_email', '{"n": 7}', 'busy', 0, '0', 1, 25, null, null, true),
            ('send_email', '{"n": 8}', 'busy', 0, '0', 0, 25, null, null, false),
            ('report', '{"n": 9}', null, 0, '0', 25, 25, 'no such file', 'key 9', false),
            ('report', '{"n": "\u0000"}', null, 0, '0', 0, 25, null, null, false),
            ('report', '{"n": 11}', null, 0, '0', 0, 25, null, 'key 11', false)
        ) as j (
            task, payload, queue, priority, delay, attempts, max_attempts, error, key, is_locked
        );
        update graphile_worker._private_job_queues set locked_at = now(), locked_by = 'worker-1'
        where queue_name = 'busy';
        """,
    )


def jobs_move(db: Db, priority: str = CLAMPED) -> None:
    """The page, on `some_jobs`."""
    create, send, functions, loop, check, *_ = GRAPHILE
    assert functions.count(CLAMPED) == 2
    run(db, create, send, functions.replace(CLAMPED, priority))
    # given a newer job of a key, sent here
    run(
        db,
        "select jobs.queue_send('work', '{\"n\": \"newer\"}',"
        " p_headers => '{\"task\": \"report\"}', p_job_key => 'key 11')",
    )
    # when it is moved, then what runs, what stands behind it, and what cannot be here, was left
    run(db, loop, loop)
    assert checked(db, check) == {
        "left_behind": 1 + 2 + 1,
        "moved": 5,
        "superseded": 1,
        "waiting": 2 + 5,
        "failed_moved": 1,
        "dead": 1,
    }
    # and when its worker has done, and the queue is free, the rest comes
    run(
        db,
        "delete from graphile_worker._private_jobs where locked_at is not null",
        "update graphile_worker._private_job_queues set locked_at = null, locked_by = null",
        loop,
    )
    assert value(db, "select count(*) from graphile_worker._private_jobs") == 1
    dead = rows(
        db, "select headers, job_key, attempts, last_error, reason from jobs.dead_letter_list()"
    )
    assert dead == [({"task": "report"}, "key 9", 25, "no such file", "exhausted")]
    claimed: list[tuple[Any, ...]] = []

    def claim() -> bool:
        claimed.extend(
            rows(
                db,
                "select payload ->> 'n', headers ->> 'task', group_key, job_key, max_attempts"
                " from jobs.queue_claim('work', 100)",
            )
        )
        return len(claimed) >= 5

    until(claim)  # of each group one at a time, once a tick has let it in
    assert sorted(claimed) == [
        ("1", "send_email", None, None, 25),
        ("2", "send_email", None, "key 2", 22),
        ("5", "send_email", "ada", None, 25),
        ("8", "send_email", "busy", None, 25),
        ("newer", "report", None, "key 11", 25),
    ]


def test_backfill(db: Db) -> None:
    """Its jobs by the page of graphile-worker, on the tables that its own page prints."""
    tables, priority, dlq, loop, check = BACKFILL
    run(db, tables)
    some_jobs(db)
    run(
        db,
        """
        insert into graphile_worker.backfill_dlq (
            task_identifier, payload, queue_name, priority, job_key, max_attempts,
            failure_reason, failure_count, last_error, failed_at, requeued_count, last_requeued_at
        ) values
            ('report', '{"d": 1}', 'default', -20, null, 8,
                'exhausted', 1, '{"code": 500}', '2026-01-02Z', 0, null),
            ('report', '{"d": 2}', 'user-7', 10, 'k', 8,
                'exhausted', 2, null, '2026-01-04Z', 1, '2026-01-03Z'),
            ('report', '{"d": 3}', 'default', 0, 'k', null,
                'bad input', 1, null, '2026-01-05Z', 0, null),
            ('report', '{"d": 4}', 'default', 0, null, 8,
                'exhausted', 1, null, '2026-01-02Z', 1, '2026-01-03Z')
        """,
    )
    run(db, priority)
    jobs_move(db, "move.priority(j.priority)")
    run(db, dlq, loop, loop)
    assert checked(db, check) == {"requeued_before": 1, "moved": 3, "landed": 4}
    dead = rows(
        db,
        "select payload, priority, job_key, reason, attempts, last_error, failure_count"
        " from jobs.dead_letter_list('work') where payload ? 'd' order by 1",
    )
    assert dead == [
        ({"d": 1}, 0, None, "exhausted", 8, 'exhausted: {"code": 500}', 1),
        ({"d": 3}, 4, "k", "not_retryable", 1, "bad input", 2),
    ]


@pytest.mark.heavy
def test_graphile_worker(db: Db, url: str, typed: Callable[[str], str], tmp_path: Path) -> None:
    """On the tables that graphile-worker makes itself, and back by its own add_job."""
    graphile(tmp_path, url)
    some_jobs(db)
    jobs_move(db)
    # and they go back by its own add_job
    *_, back, back_loop = GRAPHILE
    run(db, "select jobs.queue_release(lease_id) from jobs.in_flight", back, back_loop)
    put_back = rows(
        db,
        "select payload ->> 'n', task_identifier, queue_name, j.key, j.max_attempts,"
        " j.run_at > now() + interval '50 min'"
        " from graphile_worker.jobs v inner join graphile_worker._private_jobs j using (id)"
        " where position('u0000' in payload::text) = 0 order by 1",
    )
    assert put_back == [
        ("1", "send_email", None, None, 25, False),
        ("2", "send_email", None, "key 2", 22, False),
        ("3", "report", None, "key 3", 25, True),
        ("5", "send_email", "ada", None, 25, False),
        ("6", "send_email", "ada", None, 25, False),
        ("8", "send_email", "busy", None, 25, False),
        ("newer", "report", None, "key 11", 25, False),
    ]
    assert value(db, "select sum(ready + scheduled + blocked + leased) from jobs.backlog") == 1
    # the worker of the page does what its call has sent
    (tmp_path / "tasks.py").write_text(snippets("move-over/graphile-worker.md", "python")[0])
    (work,) = snippets("move-over/graphile-worker.md", "sh")
    run(
        db,
        "select jobs.queue_send('work', '{\"to\": \"ada\"}',"
        ' p_headers => \'{"task": "send_email"}\')',
    )
    assert typed(work.rstrip() + " --drain").strip() == "email to ada attempt 1"


NOTE = """
module.exports = async (payload, helpers) => {
  await helpers.query(
    "insert into done (n, queue, by) values ($1, $2, 'old')",
    [payload.n, payload.queue],
  );
};
"""


@pytest.mark.heavy
def test_graphile_worker_goes_on_while_its_jobs_are_moved(db: Db, url: str, tmp_path: Path) -> None:
    """Old and new workers at once, and whoever moves: each job is done once, queues in order."""
    graphile(tmp_path, url)
    create, _, functions, loop, *_ = GRAPHILE
    run(
        db,
        create,
        functions,
        "create table done (id bigint generated always as identity, n int, queue text, by text)",
        """
        select graphile_worker.add_job(
            'note', json_build_object('n', n, 'queue', q.name), q.name,
            now() - interval '1 hour' + n * interval '1 second'
        )
        from generate_series(1, 2000) as n
        cross join lateral (select case when n % 2 = 0 then 'queue ' || n % 20 end as name) as q
        """,
    )
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "note.js").write_text(NOTE, encoding="utf-8")
    command = ["node_modules/.bin/graphile-worker", "-j", "3", "--poll-interval", "50"]
    worker = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "DATABASE_URL": url}, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: bool(value(db, "select count(*) from done") >= 100), 120)

        def all_done() -> bool:
            run(db, loop.replace("move.jobs()", "move.jobs(7)"))
            db.execute(
                "with claimed as (select * from jobs.queue_claim('work', 20)), noted as ("
                "insert into done (n, queue, by) select (payload ->> 'n')::int, group_key, 'new'"
                " from claimed order by message_id returning 1)"
                " select (select count(*) from noted), jobs.queue_ack(lease_id)"
                " from claimed group by lease_id"
            )
            return bool(value(db, "select count(distinct n) from done") == 2000)

        until(all_done, 240)
    finally:
        worker.terminate()
        worker.wait(timeout=60)
    assert value(db, "select count(*) from done") == 2000
    assert rows(db, "select from graphile_worker._private_jobs") == []
    both = {by for (by,) in rows(db, "select distinct by from done")}
    assert both == {"old", "new"}
    out_of_order = rows(
        db,
        "select * from (select queue, n, lag(n) over (partition by queue order by id) as former"
        " from done where queue is not null) d where n < former",
    )
    assert out_of_order == []


def graphile(folder: Path, url: str) -> None:
    """graphile-worker from its registry, and its schema in the database."""
    npm = shutil.which("npm")
    assert npm, "this test needs npm: install nodejs and npm"
    install = [npm, "install", "--no-audit", "--no-fund", "--loglevel", "error"]
    subprocess.run([*install, "graphile-worker@0.17"], cwd=folder, check=True, timeout=300)
    subprocess.run(
        ["node_modules/.bin/graphile-worker", "--schema-only"],
        cwd=folder,
        env={**os.environ, "DATABASE_URL": url},
        check=True,
        timeout=60,
    )
