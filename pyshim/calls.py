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

CLEANUP_SWEEP = "select * from {schema}.cleanup_sweep(p_limit => %(limit)s)"


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
