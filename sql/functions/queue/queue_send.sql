{% from "macros/send.sql" import send_one_body %}
create or replace function {{ schema }}.queue_send(
    p_queue text,
    p_payload jsonb,
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_group_key text default null,
    p_idempotency_key text default null,
    p_event_id uuid default null,
    p_run_id text default null,
    p_tenant text default null,
    p_max_attempts integer default null
) returns {{ schema }}.sent
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
{{ send_one_body("queue", "p_queue") }}
$$;

comment on function {{ schema }}.queue_send(
    text, jsonb, jsonb, timestamptz, integer, text, text, uuid, text, text, integer
) is
'Send a message to a queue, in the caller''s transaction. Answers inserted with its message_id, or, for an idempotency key used before on this queue, deduplicated with the first one. A run_at in the past or null means now. Errors: TG010 bad argument, TG020 no such queue.';
