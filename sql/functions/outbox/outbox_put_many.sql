{% from "macros/send.sql" import send_many_body %}
create or replace function {{ schema }}.outbox_put_many(
    p_topic text,
    p_payloads jsonb[],
    p_group_key text default null,
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_run_id text default null,
    p_tenant text default null,
    p_idempotency_key text default null
) returns setof {{ schema }}.sent
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
as $$
{{ send_many_body("topic", "p_topic", "outbox_put") }}
$$;

comment on function {{ schema }}.outbox_put_many(
    text, jsonb[], text, jsonb, timestamptz, integer, text, text, text
) is
'Put many events into a topic, in the caller''s transaction: one answer an element, in order; no rows for an empty array. The options hold for all; with an idempotency key, each element''s key is that key, a colon and its place in the array. Errors: TG010 bad argument, TG020 no such topic.';
