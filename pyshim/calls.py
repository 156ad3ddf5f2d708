"""Every call the driver makes, as SQL text by name: one function each, never a table.

`{schema}` is filled with the quoted schema name by `bind`; arguments are named, on both sides.
"""

from __future__ import annotations

from psycopg import sql

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


def bind(statement: str, schema: str) -> sql.Composed:
    """The statement for one installation. `schema` is the raw name; it is quoted here."""
    return sql.SQL(statement).format(schema=sql.Identifier(schema))
