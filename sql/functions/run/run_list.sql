create or replace function {{ schema }}.run_list(
    p_state text default 'open',
    p_limit integer default 50,
    p_after_id text default null,
    p_after_at timestamptz default null,
    out run_id text,
    out state text,
    out reason text,
    out parent_id text,
    out tenant text,
    out fail_on_dead_letter boolean,
    out opened_at timestamptz,
    out finished_at timestamptz
) returns setof record
language plpgsql stable rows 50
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
/*
 * A page of each state that is asked for, from the index, and of these the newest. What waits of a run is not counted
 * here: run_status does, for one.
 */
declare
    v_after_at timestamptz := coalesce(p_after_at, 'infinity');
    v_states text[] := array['open', 'completed', 'error', 'stopped'];
begin
    if p_state <> all (v_states) then
        perform _bad_argument('p_state', p_state, 'A run is open, completed, error or stopped; null lists all.');
    elsif p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'List between 1 and 10000 runs at a time.');
    elsif p_after_id is null and p_after_at is not null then
        perform _bad_argument('p_after_id', null, 'p_after_at is the opened_at that belongs to p_after_id: give both.');
    elsif p_after_id is not null and p_after_at is null then
        select r.opened_at into v_after_at from run r where r.run_id = p_after_id;
        if not found then
            perform _bad_argument(
                'p_after_id', left(p_after_id, 100),
                'That run is gone: give the opened_at it was listed with as p_after_at, or list from the top.'
            );
        end if;
    end if;
    if p_state is not null then
        v_states := array[p_state];
    end if;
    return query
    select r.*
    from unnest(v_states) as s (state)
    cross join lateral (
        select
            n.run_id, n.state, n.reason, n.parent_id, n.tenant, n.fail_on_dead_letter, n.opened_at, n.finished_at
        from run n
        where
            n.state = s.state
            and (n.opened_at, n.run_id) < (v_after_at, coalesce(p_after_id, ''))
        order by n.opened_at desc, n.run_id desc
        limit p_limit
    ) as r
    order by r.opened_at desc, r.run_id desc
    limit p_limit;
end;
$$;

comment on function {{ schema }}.run_list(text, integer, text, timestamptz) is
'Runs in a state (open unless given; null = any), what was opened last on top. Page on with p_after_id = the last run_id seen, and p_after_at = its opened_at, so that it need not be there any more. No rows when nothing matches. How much of a run waits or is dead, run_status tells. Errors: TG010 unknown state, bad limit, a p_after_id that is gone.';
