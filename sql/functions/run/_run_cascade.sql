create or replace function {{ schema }}._run_cascade(p_run_id text, p_state text) returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Level by level, each locked in order and looked at after the one above it: who opens a child holds its parent's row
 * until he commits, so none comes in behind this. Children that have ended otherwise stay as they are, and so does what
 * is below them; one in error is stopped with its parent.
 */
declare
    v_now timestamptz := clock_now();
    v_level text[] := array[p_run_id];
    v_changed integer := 0;
begin
    loop
        with child as (
            select r.run_id, r.parent_id from run r
            where r.parent_id = any(v_level)
                and (r.state = 'open' or (r.state = 'error' and p_state = 'stopped'))
            order by r.run_id
            for update
        ), changed as (
            update run r
            set state = p_state, finished_at = v_now,
                reason = case p_state when 'error' then 'failed' else 'stopped' end || ' with ' || c.parent_id
            from child c
            where r.run_id = c.run_id
            returning r.run_id
        )
        select array_agg(c.run_id) into v_level from changed c;
        exit when v_level is null;
        v_changed := v_changed + cardinality(v_level);
    end loop;
    return v_changed;
end;
$$;

comment on function {{ schema }}._run_cascade(text, text) is
'Let the open children of a run, and theirs, share its fate: error or stopped. Returns how many; 0 when it has none.';
