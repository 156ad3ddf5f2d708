create or replace function {{ schema }}._run_stop(
    p_run_id text,
    p_reason text,
    p_routine text,
    out former_state text,
    out former_at timestamptz,
    out runs integer,
    out removed bigint
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The run comes first, so that whatever is sent, claimed or swept after the commit is refused; then what can be seen
 * of it is removed. A run that was never opened is made here, to be remembered. A repeat takes what came in meanwhile.
 */
declare
    v_run run;
    v_run_id text;
    v_tree text[];
begin
    runs := 0;
    removed := 0;
    v_run := _run_lock(p_run_id, p_routine);
    if v_run.run_id is null then
        insert into run (run_id, state, reason, opened_at, finished_at)
        values (p_run_id, 'stopped', p_reason, clock_now(), clock_now())
        on conflict do nothing;
        if found then
            runs := 1;
        else
            v_run := _run_lock(p_run_id, p_routine); -- somebody opened or cancelled it a moment ago
        end if;
    end if;
    former_state := v_run.state;
    former_at := v_run.finished_at;
    if v_run.state = 'completed' then
        return;
    end if;
    if v_run.state in ('open', 'error') then
        update run r set state = 'stopped', reason = p_reason, finished_at = clock_now()
        where r.run_id = p_run_id;
        runs := 1 + _run_cascade(p_run_id, 'stopped');
    end if;
    with recursive stopped as (
        select p_run_id collate "C" as run_id
        union
        select r.run_id from stopped s inner join run r on r.parent_id = s.run_id where r.state = 'stopped'
    )
    select array_agg(s.run_id) into v_tree from stopped s;

    -- After the runs and before the messages, as the lock order says. One in which somebody arrives at this moment, or
    -- that somebody opens anew, is left to recovery: from the commit on nobody arrives there. Recovery looks at once,
    -- or, where the row of the barrier itself is held, when it is stranded.
    perform barrier_abort(b.name, b.epoch, 'its run was stopped')
    from (
        select n.name, n.epoch
        from barrier n
        cross join lateral (select from barrier_epoch e where e.epoch = n.epoch for update skip locked) e
        where n.run_id = any(v_tree) and n.state = 'open'
        order by n.epoch
        for update of n skip locked
    ) b;
    update barrier set look_at = clock_now()
    where ctid = any(array(
        select n.ctid from barrier n where n.run_id = any(v_tree) and n.state = 'open' for update skip locked
    ));

    foreach v_run_id in array v_tree loop
        removed := removed + _run_remove(v_run_id);
    end loop;
end;
$$;

comment on function {{ schema }}._run_stop(text, text, text) is
'Stop a run with its children, and remove what waits of them; nothing, when it has completed. Returns what the run was before and since when (null: nobody knew it), how many runs were stopped now, and how many messages were removed.';
