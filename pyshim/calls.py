"""Every call the driver makes, as SQL text by name: one function each, never a table.

`{schema}` is filled with the quoted schema name by `bind`; arguments are named, on both sides.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from psycopg import sql

# What an application sends and puts. {options} is filled with the arguments that were given: the
# defaults of the others stand in SQL.
QUEUE_SEND = """
select message_id, outcome
from {schema}.queue_send(p_queue => %(queue)s, p_payload => %(payload)s::jsonb{options})
"""

QUEUE_SEND_MANY = """
select message_id, outcome
from {schema}.queue_send_many(p_queue => %(queue)s, p_payloads => %(payloads)s::jsonb[]{options})
"""

QUEUE_SEND_SPECS = """
select message_id, outcome
from {schema}.queue_send_specs(p_queue => %(queue)s, p_specs => %(specs)s::jsonb)
"""

OUTBOX_PUT = """
select message_id, outcome
from {schema}.outbox_put(p_topic => %(topic)s, p_payload => %(payload)s::jsonb{options})
"""

OUTBOX_PUT_MANY = """
select message_id, outcome
from {schema}.outbox_put_many(p_topic => %(topic)s, p_payloads => %(payloads)s::jsonb[]{options})
"""

OUTBOX_PUT_SPECS = """
select message_id, outcome
from {schema}.outbox_put_specs(p_topic => %(topic)s, p_specs => %(specs)s::jsonb)
"""

# Barriers, in the transaction of the work that they wait for.
BARRIER_OPEN = """
select epoch, outcome
from {schema}.barrier_open(p_name => %(name)s, p_members => %(members)s::int4{options})
"""

BARRIER_SEND = """
select epoch, outcome from {schema}.barrier_send(
    p_name => %(name)s, p_queue => %(queue)s, p_payloads => %(payloads)s::jsonb[]{options}
)
"""

BARRIER_ADD = """
select {schema}.barrier_add(
    p_name => %(name)s, p_epoch => %(epoch)s::int8, p_count => %(count)s::int4{options}
) as first_member
"""

BARRIER_SEAL = """
select {schema}.barrier_seal(p_name => %(name)s, p_epoch => %(epoch)s::int8) as outcome
"""

BARRIER_ARRIVE = """
select {schema}.barrier_arrive(
    p_name => %(name)s, p_epoch => %(epoch)s::int8, p_member => %(member)s::int4,
    p_result => %(result)s::jsonb
) as outcome
"""

BARRIER_FAIL = """
select {schema}.barrier_fail(
    p_name => %(name)s, p_epoch => %(epoch)s::int8, p_member => %(member)s::int4,
    p_error => %(error)s
) as outcome
"""

BARRIER_ABORT = """
select {schema}.barrier_abort(
    p_name => %(name)s, p_epoch => %(epoch)s::int8, p_reason => %(reason)s
) as outcome
"""

BARRIER_STATUS = """
select name, epoch, state, outcome, reason, policy, is_sealed, members, arrived, failed,
    outstanding, opened_at, progress_at, expires_at, stalls_at, closed_at, run_id, tenant
from {schema}.barrier_status(p_name => %(name)s)
"""

# What people see of barriers, and do with those that are stranded.
BARRIER_LIST = """
select name, epoch, state, outcome, members, arrived, failed, outstanding, opened_at, progress_at,
    expires_at, stalls_at, closed_at, reason, run_id, tenant
from {schema}.barrier_progress
where state = coalesce(%(state)s, state) and (run_id = %(run_id)s or %(run_id)s::text is null)
    and (not %(stranded)s or state = 'open' and least(expires_at, stalls_at) <= clock_timestamp())
order by opened_at desc, name
limit %(limit)s
"""

BARRIER_RESULTS = """
select member, is_failed, result, error, at
from {schema}.barrier_results(
    p_name => %(name)s, p_epoch => %(epoch)s::int8, p_after => %(after)s::int4,
    p_limit => %(limit)s::int4
)
"""

# The same for people: numbers as the database holds them.
BARRIER_RESULTS_TEXT = BARRIER_RESULTS.replace("result,", "result::text as result,", 1)

BARRIER_RESOLVE = """
select {schema}.barrier_resolve(
    p_name => %(name)s, p_epoch => %(epoch)s::int8, p_outcome => %(outcome)s
) as outcome
"""

COUNTER_ADD = "select {schema}.counter_add(p_key => %(key)s, p_amount => %(amount)s::int8)"

OUTBOX_SWEEP = "select * from {schema}.outbox_sweep(p_limit => %(limit)s, p_topic => %(topic)s)"

# Payload and headers as text: a relay passes JSON on as it is, numbers included. lease_left is
# measured by the server's clock, so that a relay on a host whose clock is off still knows how long
# it may take.
OUTBOX_CLAIM = """
select lease_id, message_id, event_id, topic, attempt, payload::text as payload,
    headers::text as headers, group_key, run_id, tenant, enqueued_at,
    lease_expires_at - clock_timestamp() as lease_left
from {schema}.outbox_claim(
    p_topic => %(topic)s, p_limit => %(limit)s, p_lease => %(lease)s, p_worker => %(worker)s,
    p_lease_id => %(lease_id)s
)
"""

OUTBOX_SETTLE = """
select * from {schema}.outbox_settle(
    p_lease_id => %(lease_id)s, p_done => %(done)s::bigint[], p_failed => %(failed)s
)
"""

OUTBOX_RELEASE = """
select * from {schema}.outbox_release(
    p_lease_id => %(lease_id)s, p_message_ids => %(message_ids)s::bigint[],
    p_retry_in => %(retry_in)s
)
"""

QUEUE_CLAIM = """
select * from {schema}.queue_claim(
    p_queue => %(queue)s, p_limit => %(limit)s, p_lease => %(lease)s, p_worker => %(worker)s,
    p_lease_id => %(lease_id)s
)
"""

# What a worker claims: text, as for a relay, for JSON that this Python cannot hold is one message's
# fate and not the batch's.
QUEUE_CLAIM_TEXT = """
select lease_id, message_id, event_id, topic, attempt, max_attempts, payload::text as payload,
    headers::text as headers, priority, group_key, job_key, run_id, tenant, barrier, epoch, member,
    enqueued_at, lease_expires_at - clock_timestamp() as lease_left
from {schema}.queue_claim(
    p_queue => %(queue)s, p_limit => %(limit)s, p_lease => %(lease)s, p_worker => %(worker)s,
    p_lease_id => %(lease_id)s
)
"""

QUEUE_ACK = """
select acked, lost from {schema}.queue_ack(
    p_lease_id => %(lease_id)s::uuid, p_message_ids => %(message_ids)s::bigint[],
    p_result => %(result)s::jsonb
)
"""

QUEUE_SETTLE = """
select * from {schema}.queue_settle(
    p_lease_id => %(lease_id)s, p_done => %(done)s::bigint[], p_failed => %(failed)s,
    p_results => %(results)s::jsonb
)
"""

QUEUE_RELEASE = """
select * from {schema}.queue_release(
    p_lease_id => %(lease_id)s, p_message_ids => %(message_ids)s::bigint[],
    p_retry_in => %(retry_in)s
)
"""

QUEUE_EXTEND = """
select expires_at - clock_timestamp() as expires_in, deadline - clock_timestamp() as deadline_in,
    cancelled, lost
from {schema}.queue_extend(p_lease_id => %(lease_id)s, p_lease => %(lease)s)
"""

CLEANUP_SWEEP = "select * from {schema}.cleanup_sweep(p_limit => %(limit)s)"

# The upkeep: what is due when is the schema's to say, statements included.
MAINTENANCE_DUE = """
select job, statement, is_led, due_in, failure_count
from {schema}.maintenance_due(p_leader_epoch => %(epoch)s::bigint)
"""

MAINTENANCE_START = "select {schema}.maintenance_start(p_job => %(job)s) as started"

MAINTENANCE_FINISH = """
select {schema}.maintenance_finish(
    p_job => %(job)s, p_error => %(error)s, p_again => %(again)s, p_systemic => %(systemic)s
) as due_in
"""

MAINTENANCE_CONFIGURE = """
select {schema}.maintenance_configure(p_job => %(job)s, p_arguments => %(arguments)s::jsonb)
"""

# What channels there are, for whoever may see it.
POLICY = "select kind, name, lease, max_runtime, is_routed from {schema}.policy"

LEADER_ACQUIRE = """
select outcome, epoch from {schema}.leader_acquire(
    p_name => %(name)s, p_holder => %(holder)s, p_lease => %(lease)s::interval
)
"""

LEADER_RENEW = """
select {schema}.leader_renew(
    p_name => %(name)s, p_epoch => %(epoch)s::bigint, p_lease => %(lease)s::interval
) as leads
"""

LEADER_RESIGN = """
select {schema}.leader_resign(p_name => %(name)s, p_epoch => %(epoch)s::bigint) as resigned
"""

RECOVERY_SWEEP = "select * from {schema}.recovery_sweep(p_limit => %(limit)s)"


def given(statement: str) -> str:
    """A statement that the schema gave, as `bind` takes it: it has no holes and no arguments."""
    return statement.replace("%", "%%").replace("{", "{{").replace("}", "}}")


# What people do to queues, and see of them.
QUEUE_LIST = """
select name, ready, scheduled, blocked, leased, oldest_ready_at, next_due_at, is_paused, is_draining
from {schema}.backlog
where kind = 'queue' and name = coalesce(%(queue)s, name)
order by name
"""

# The same for people. Seconds, for no other type of ours holds every instant that the server's can.
QUEUE_LIST_TEXT = QUEUE_LIST.replace(
    "next_due_at",
    "(extract(epoch from clock_timestamp()) - extract(epoch from next_due_at))::float8"
    " as due_since",
)

QUEUE_CREATE = "select {schema}.queue_create(p_queue => %(queue)s, p_policy => %(policy)s::jsonb)"

QUEUE_CONFIGURE = """
select {schema}.queue_configure(p_queue => %(queue)s, p_policy => %(policy)s::jsonb)
"""

QUEUE_PAUSE = "select {schema}.queue_pause(p_queue => %(queue)s)"

QUEUE_RESUME = "select {schema}.queue_resume(p_queue => %(queue)s)"

QUEUE_DRAIN = "select {schema}.queue_drain(p_queue => %(queue)s)"

QUEUE_PURGE = "select {schema}.queue_purge(p_queue => %(queue)s, p_to => %(to)s) as purged"

QUEUE_DROP = "select {schema}.queue_drop(p_queue => %(queue)s, p_to => %(to)s)"

QUEUE_PEEK = """
select message_id, priority, attempts, max_attempts, enqueued_at, event_id, group_key, job_key,
    run_id, tenant, headers, payload, errors
from {schema}.queue_peek(p_queue => %(queue)s, p_limit => %(limit)s, p_place => %(place)s)
"""

# The same for people: numbers in the payload as the database holds them.
QUEUE_PEEK_TEXT = QUEUE_PEEK.replace("payload", "payload::text as payload")

QUEUE_CANCEL = """
select message_id, outcome
from {schema}.queue_cancel(
    p_queue => %(queue)s, p_message_ids => %(message_ids)s::bigint[], p_job_key => %(job_key)s
)
"""

# What people, and scripts, do with runs and guards.
RUN_OPEN = """
select {schema}.run_open(
    p_run_id => %(run_id)s, p_parent => %(parent)s, p_tenant => %(tenant)s,
    p_fail_on_dead_letter => %(fail_on_dead_letter)s
) as state
"""

RUN_FINISH = """
select outcome, state
from {schema}.run_finish(p_run_id => %(run_id)s, p_state => %(state)s, p_reason => %(reason)s)
"""

RUN_CANCEL = """
select outcome, runs, removed
from {schema}.run_cancel(p_run_id => %(run_id)s, p_reason => %(reason)s)
"""

RUN_LIST = """
select run_id, state, opened_at, finished_at, parent_id, tenant, reason, fail_on_dead_letter
from {schema}.run_list(
    p_state => %(state)s, p_limit => %(limit)s, p_after_id => %(after)s
)
"""

RUN_STATUS = "select * from {schema}.run_status(p_run_id => %(run_id)s)"

GUARD_CLAIM = """
select outcome, result, is_repeat from {schema}.guard_claim(
    p_scope => %(scope)s, p_key => %(key)s, p_owner => %(owner)s, p_lease => %(lease)s::interval,
    p_run_id => %(run_id)s
)
"""

# The same for people: numbers as the database holds them.
GUARD_CLAIM_TEXT = GUARD_CLAIM.replace("result,", "result::text as result,", 1)

GUARD_RENEW = """
select outcome, expires_at from {schema}.guard_renew(
    p_scope => %(scope)s, p_key => %(key)s, p_owner => %(owner)s, p_lease => %(lease)s::interval
)
"""

GUARD_FINISH = """
select {schema}.guard_finish(
    p_scope => %(scope)s, p_key => %(key)s, p_owner => %(owner)s, p_result => %(result)s::jsonb
) as outcome
"""

GUARD_RELEASE = """
select {schema}.guard_release(p_scope => %(scope)s, p_key => %(key)s, p_owner => %(owner)s)
    as outcome
"""

# What people do with dead letters. One set of filters; null matches all.
DEAD_LETTER_LIST = """
select dead_letter_id, dead_at, kind, channel, reason, state, attempts, failure_count,
    requeued_count, last_requeued_at, message_id, event_id, group_key, job_key, tenant, run_id,
    last_error
from {schema}.dead_letter_list(
    p_channel => %(channel)s, p_reason => %(reason)s, p_tenant => %(tenant)s,
    p_run_id => %(run_id)s, p_state => %(state)s, p_since => %(since)s, p_until => %(until)s,
    p_limit => %(limit)s, p_after_id => %(after)s, p_after_at => %(after_at)s
)
"""

DEAD_LETTER_COUNT = """
select {schema}.dead_letter_count(
    p_channel => %(channel)s, p_reason => %(reason)s, p_tenant => %(tenant)s,
    p_run_id => %(run_id)s, p_state => %(state)s, p_since => %(since)s, p_until => %(until)s
) as total
"""

DEAD_LETTER_PEEK = "select * from {schema}.dead_letter_peek(p_dead_letter_id => %(id)s)"

# The same for people: numbers in the payload as the database holds them.
DEAD_LETTER_PEEK_TEXT = """
select d.*, d.payload::text as payload_text
from {schema}.dead_letter_peek(p_dead_letter_id => %(id)s) d
"""

DEAD_LETTER_HISTORY = """
select at, attempt, error from {schema}.dead_letter_history(p_dead_letter_id => %(id)s)
"""

DEAD_LETTER_REQUEUE = """
select dead_letter_id, message_id, outcome
from {schema}.dead_letter_requeue(
    p_dead_letter_ids => %(ids)s::bigint[], p_reset_attempts => %(reset_attempts)s,
    p_note => %(note)s
)
"""

DEAD_LETTER_REQUEUE_MATCHING = """
select requeued, key_in_use, no_channel, busy, last_due_at
from {schema}.dead_letter_requeue_matching(
    p_channel => %(channel)s, p_reason => %(reason)s, p_tenant => %(tenant)s,
    p_run_id => %(run_id)s, p_since => %(since)s, p_until => %(until)s, p_limit => %(limit)s,
    p_per_second => %(per_second)s, p_dry_run => %(dry_run)s,
    p_reset_attempts => %(reset_attempts)s, p_note => %(note)s
)
"""

DEAD_LETTER_DISCARD = """
select dead_letter_id, outcome
from {schema}.dead_letter_discard(p_dead_letter_ids => %(ids)s::bigint[], p_reason => %(note)s)
"""

DEAD_LETTER_DISCARD_MATCHING = """
select {schema}.dead_letter_discard_matching(
    p_note => %(note)s, p_channel => %(channel)s, p_reason => %(reason)s, p_tenant => %(tenant)s,
    p_run_id => %(run_id)s, p_since => %(since)s, p_until => %(until)s, p_limit => %(limit)s,
    p_dry_run => %(dry_run)s
) as discarded
"""

DEAD_LETTER_STATS = """
select facet, name, dead, requeued, resolved, discarded, requeues, oldest_at, newest_at, dead_since
from {schema}.dead_letter_stats()
"""

# How it all is: for a scrape, and for people.
METRICS = "select name, type, labels, value, help from {schema}.metrics()"

DOCTOR = "select check_name, status, seen, advice from {schema}.doctor()"

# Types of the arguments that `{options}` may name, where text is not what they are: a parameter has
# the type that the caller's connection gives it, and functions are found by type.
_TYPES = {
    "headers": "jsonb",
    "backoff": "jsonb",
    "run_at": "timestamptz",
    "priority": "int4",
    "max_attempts": "int4",
    "event_id": "uuid",
    "callback_payload": "jsonb",
    "callback_headers": "jsonb",
    "callback_priority": "int4",
    "failure_payload": "jsonb",
    "quorum": "int4",
    "expires_in": "interval",
    "stall_after": "interval",
    "sealed": "bool",
    "inline_limit": "int4",
}


def as_json(statement: str) -> str:
    """The rows of a statement as one JSON array, a row a line."""
    return f"select coalesce(json_agg(r), '[]')::text as json from ({statement}) r"


@functools.cache
def text(statement: str, schema: str) -> bytes:
    """The statement for one installation, made once, as it is needed at every step of a loop."""
    return bind(statement, schema).as_bytes(None)


def bind(statement: str, schema: str, options: Iterable[str] = ()) -> sql.Composed:
    """The statement for one installation. `schema` is the raw name; it is quoted here."""
    given = [
        sql.SQL(", {} => {}::{}").format(
            sql.Identifier(f"p_{name}"),
            sql.Placeholder(name),
            sql.Identifier(_TYPES.get(name, "text")),
        )
        for name in options
    ]
    return sql.SQL(statement).format(schema=sql.Identifier(schema), options=sql.Composed(given))
