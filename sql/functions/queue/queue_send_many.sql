{% from "macros/send.sql" import send_many_body %}
create or replace function {{ schema }}.queue_send_many(
    p_queue text,
    p_payloads jsonb[],
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_group_key text default null,
    p_idempotency_key text default null,
    p_run_id text default null,
    p_tenant text default null,
    p_max_attempts integer default null,
    p_backoff jsonb default null
) returns setof {{ schema }}.sent
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
as $$
{{ send_many_body("queue", "p_queue", "queue_send") }}
$$;

comment on function {{ schema }}.queue_send_many(
    text, jsonb[], jsonb, timestamptz, integer, text, text, text, text, integer, jsonb
) is
'Send many messages to a queue, in the caller''s transaction: one answer an element, in order; no rows for an empty array. The options hold for all; with an idempotency key, each element''s key is that key, a colon and its place in the array. Job keys belong to one message each: see queue_send_specs. Errors: TG010 bad argument, TG020 no such queue, TG023 it is draining.';
