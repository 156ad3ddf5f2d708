{% from "macros/dead_letter.sql" import dead_letter_ids_body %}
create or replace function {{ schema }}._dead_letter_newest(
    p_channel text,
    p_reason text,
    p_tenant text,
    p_run_id text,
    p_state text,
    p_from_at timestamptz,
    p_from_id bigint,
    p_to_at timestamptz,
    p_to_id bigint,
    p_limit integer
) returns bigint[]
language plpgsql stable
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
{{ dead_letter_ids_body("desc") }}
$$;

comment on function {{ schema }}._dead_letter_newest(
    text, text, text, text, text, timestamptz, bigint, timestamptz, bigint, integer
) is
'Ids of dead letters, newest first, that match the filters and stand between two pairs of dead_at and dead_letter_id, both excluded. An empty array when there are none.';
