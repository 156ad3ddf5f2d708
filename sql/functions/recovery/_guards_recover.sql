create or replace function {{ schema }}._guards_recover(
    p_limit integer, p_leader_epoch bigint, out retired integer, out is_full boolean
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * By runs, in the order in which they ended, an hour ago: so what is read is what has ended since the last pass, and
 * not what vacuum has not removed. A guard that is alive then, or whose run's end takes more than an hour to commit,
 * is found when the run itself is cleaned up.
 */
declare
    v_now constant timestamptz := clock_now();
    v_last recovery_mark;
    v_run_ids text[];
    v_last_at timestamptz;
begin
    select * into v_last from recovery_mark m where m.source = 'guard' order by m.entry desc limit 1;
    if v_last.at > v_now then
        v_last.scan_from := least(v_last.scan_from, v_now - interval '1 hour');
    end if;
    select array_agg(e.run_id), max(e.finished_at) into v_run_ids, v_last_at
    from (
        select r.run_id, r.finished_at from run r
        where r.finished_at is not null
            and r.finished_at > coalesce(v_last.scan_from, '-infinity') and r.finished_at <= v_now - interval '1 hour'
        order by r.finished_at
        fetch first p_limit rows with ties
    ) e;
    retired := 0;
    is_full := coalesce(cardinality(v_run_ids) >= p_limit, false);
    if v_run_ids is null and v_last.at is not null then
        return;
    end if;
    retired := coalesce((
        select _guards_retire(v_run_ids) where v_run_ids is not null and _leader_check('maintain', p_leader_epoch)
    ), 0);
    insert into recovery_mark (source, scan_from, at, holders)
    select
        'guard',
        case when is_full then v_last_at else v_now - interval '1 hour' end,
        v_now, '{}'
    where _leader_check('maintain', p_leader_epoch);
    delete from recovery_mark where ctid = any(array(
        select m.ctid from recovery_mark m where m.source = 'guard' and m.entry = v_last.entry for update skip locked
    ));
end;
$$;

comment on function {{ schema }}._guards_recover(integer, bigint) is
'Make tombstones of guards that were left behind by runs that ended more than an hour ago, p_limit runs at a time. Returns how many; is_full: there may be more such runs. Errors: TG090 the leader''s epoch is over.';
