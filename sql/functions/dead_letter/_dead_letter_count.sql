{% from "macros/dead_letter.sql" import dead_letter_filters %}
create or replace function {{ schema }}._dead_letter_count(
    {{ dead_letter_filters() }}
) returns setof bigint
language plpgsql stable rows 1
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_custom_plan
as $$
/*
 * A plan for the values at hand: a filter that is null vanishes from it, and the rest is what a bare count would be. A
 * set, though of one row, because `return query` is the one statement of PL/pgSQL that runs in parallel.
 */
begin
    return query
    select count(*) from dead_letter d
    where (p_channel is null or d.channel = p_channel)
        and (p_reason is null or d.reason = p_reason)
        and (p_tenant is null or d.tenant = p_tenant)
        and (p_run_id is null or d.run_id = p_run_id)
        and (p_state is null or d.state = p_state)
        and (p_since is null or d.dead_at >= p_since)
        and (p_until is null or d.dead_at < p_until);
end;
$$;

comment on function {{ schema }}._dead_letter_count(
    text, text, text, text, text, timestamptz, timestamptz
) is
'One row: how many dead letters match.';
