{% from "macros/claim.sql" import claim_body %}
create or replace function {{ schema }}.outbox_claim(
    p_topic text,
    p_limit integer default 100,
    p_lease interval default null,
    p_worker text default null,
    p_lease_id uuid default null
) returns setof {{ schema }}.delivery
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
{{ claim_body("topic", "p_topic") }}
$$;

comment on function {{ schema }}.outbox_claim(text, integer, interval, text, uuid) is
'Lease up to p_limit due events of a topic without routes, for a relay: publish them, then outbox_settle. No rows when nothing is due or the topic is paused. With a lease id of the caller''s, a repeat returns the same events while that lease stands. Errors: TG010 bad argument, TG020 no such topic, TG022 the topic is routed, TG030 not READ COMMITTED.';
