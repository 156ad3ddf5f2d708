create or replace function {{ schema }}._barriers_mark() returns timestamptz
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Where the scan of barriers starts. Each one that closes leaves an entry in the index at the instant at which it was
 * to be looked at, and under an old snapshot all of them stay. So scans start at the lowest instant that is left,
 * unless somebody may still commit one below it.
 *
 * The proof is that of deadlines in _tide_advance. An instant is never written in the past, and whoever writes one
 * holds RowExclusiveLock on the table from then to his end. The clock is read first, and then who holds that lock: who
 * held none, and writes later, writes later instants. Those who held it are waited for, by remembering them. What is
 * lowest is looked at in a later statement, so in a snapshot that sees what they have left. A minute is taken off for
 * who read the clock and was slow to take the lock. A prepared transaction cannot be followed: while one stands,
 * nothing is found safe. A clock that was set back, or pg_locks that may not be read, begins at the beginning.
 */
declare
    v_now timestamptz;
    v_last recovery_mark;
    v_mark recovery_mark;
    v_is_blind boolean;
    v_safe timestamptz;
    v_lowest timestamptz;
begin
    select * into v_last from recovery_mark m where m.source = 'barrier' order by m.entry desc limit 1;
    v_now := clock_now();
    if v_last.at <= v_now and v_now < v_last.at + interval '1 minute' then
        return v_last.scan_from;
    end if;
    begin
        select
            coalesce(array_agg(distinct concat_ws('@', l.virtualtransaction, l.pid)), '{}'),
            coalesce(bool_or(l.pid is null), false)
        into v_mark.holders, v_is_blind
        from pg_locks l
        where l.locktype = 'relation'
            and l.relation = 'barrier'::regclass
            and l.database = (select d.oid from pg_database d where d.datname = current_database())
            and l.mode = 'RowExclusiveLock'
            and l.pid is distinct from pg_backend_pid();
    exception
        when insufficient_privilege then
            return '-infinity';
    end;
    if v_last.at > v_now or v_last.at is null then
        v_mark.scan_from := '-infinity';
    elsif v_is_blind or v_mark.holders && v_last.holders then
        return v_last.scan_from;
    else
        v_safe := case when v_mark.holders = '{}' then v_now else v_last.at end - interval '1 minute';
        select b.look_at into v_lowest
        from barrier b
        where b.state in ('open', 'fire_failed') and b.look_at >= v_last.scan_from
        order by b.look_at
        limit 1;
        v_mark.scan_from := greatest(v_last.scan_from, least(v_safe, v_lowest));
    end if;
    if v_is_blind then
        return '-infinity';
    end if;
    insert into recovery_mark (source, scan_from, at, holders)
    values ('barrier', v_mark.scan_from, v_now, v_mark.holders);
    delete from recovery_mark where ctid = any(array(
        select m.ctid from recovery_mark m where m.source = 'barrier' and m.entry = v_last.entry for update skip locked
    ));
    return v_mark.scan_from;
end;
$$;

comment on function {{ schema }}._barriers_mark() is
'Below which instant no barrier is left to be looked at, found anew at most once a minute; -infinity when that is not known.';
