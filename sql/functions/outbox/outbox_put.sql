{% from "macros/send.sql" import send_one_body %}
create or replace function {{ schema }}.outbox_put(
    p_topic text,
    p_payload jsonb,
    p_group_key text default null,
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_run_id text default null,
    p_tenant text default null,
    p_event_id uuid default null,
    p_idempotency_key text default null
) returns {{ schema }}.sent
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
{{ send_one_body("topic", "p_topic") }}
$$;

comment on function {{ schema }}.outbox_put(
    text, jsonb, text, jsonb, timestamptz, integer, text, text, uuid, text
) is
'Put an event into a topic, in the caller''s transaction: it exists if that commits. Answers inserted with its message_id, or, for an idempotency key used before on this topic, deduplicated with the first one. A run_at in the past or null means now. Errors: TG010 bad argument, TG020 no such topic.';
