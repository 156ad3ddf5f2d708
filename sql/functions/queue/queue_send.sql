{% from "macros/send.sql" import send_one_body %}
create or replace function {{ schema }}.queue_send(
    p_queue text,
    p_payload jsonb,
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_group_key text default null,
    p_job_key text default null,
    p_key_mode text default 'replace',
    p_idempotency_key text default null,
    p_event_id uuid default null,
    p_run_id text default null,
    p_tenant text default null,
    p_max_attempts integer default null,
    p_backoff jsonb default null
) returns {{ schema }}.sent
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
{{ send_one_body("queue", "p_queue") }}
$$;

comment on function {{ schema }}.queue_send(
    text, jsonb, jsonb, timestamptz, integer, text, text, text, text, uuid, text, text, integer, jsonb
) is
'Send a message to a queue, in the caller''s transaction. Answers inserted with its message_id, or, for an idempotency key used before on this queue, deduplicated with the first one. A run_at in the past or null means now. Messages of one group_key are worked on one after the other, in order. Of one job_key at most one message is alive: p_key_mode says what a further send does while it waits (replace, preserve_run_at: replaced; dedupe: deduplicated); while it is leased, the newest is kept as its follow_up. p_backoff overrides the queue''s: {"base", "cap", "factor", "jitter"}. Errors: TG010 bad argument, TG020 no such queue, TG023 it is draining.';
