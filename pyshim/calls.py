"""Every call the driver makes, as SQL text by name: one function each, never a table.

`{schema}` is filled with the quoted schema name by `bind`; arguments are named, on both sides.
"""

from __future__ import annotations

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
    headers::text as headers, priority, group_key, job_key, run_id, tenant, enqueued_at,
    lease_expires_at - clock_timestamp() as lease_left
from {schema}.queue_claim(
    p_queue => %(queue)s, p_limit => %(limit)s, p_lease => %(lease)s, p_worker => %(worker)s,
    p_lease_id => %(lease_id)s
)
"""

QUEUE_ACK = """
select acked, lost from {schema}.queue_ack(
    p_lease_id => %(lease_id)s::uuid, p_message_ids => %(message_ids)s::bigint[]
)
"""

QUEUE_SETTLE = """
select * from {schema}.queue_settle(
    p_lease_id => %(lease_id)s, p_done => %(done)s::bigint[], p_failed => %(failed)s
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


# What people do to queues, and see of them.
QUEUE_LIST = """
select name, ready, scheduled, blocked, leased, oldest_ready_at, next_due_at, is_paused, is_draining
from {schema}.backlog
where kind = 'queue' and name = coalesce(%(queue)s, name)
order by name
"""

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

# Types of the arguments that `{options}` may name, where text is not what they are: a parameter has
# the type that the caller's connection gives it, and functions are found by type.
_TYPES = {
    "headers": "jsonb",
    "backoff": "jsonb",
    "run_at": "timestamptz",
    "priority": "int4",
    "max_attempts": "int4",
    "event_id": "uuid",
}


def as_json(statement: str) -> str:
    """The rows of a statement as one JSON array, a row a line."""
    return f"select coalesce(json_agg(r), '[]')::text as json from ({statement}) r"


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
