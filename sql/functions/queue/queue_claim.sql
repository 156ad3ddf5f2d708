{% from "macros/claim.sql" import claim_body %}
create or replace function {{ schema }}.queue_claim(
    p_queue text,
    p_limit integer default 1,
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
{{ claim_body("queue", "p_queue") }}
$$;

comment on function {{ schema }}.queue_claim(text, integer, interval, text, uuid) is
'Lease up to p_limit messages of a queue, highest priority (lowest number) first, then in order of becoming ready. Commit before working on them. No rows when nothing is ready, or the queue is paused or full (max_in_flight). With a lease id of the caller''s, a repeat returns the same messages while that lease stands. Errors: TG010 bad argument, TG020 no such queue, TG030 not READ COMMITTED.';
