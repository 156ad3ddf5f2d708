create or replace function {{ schema }}._tide_advance() returns {{ schema }}.tide
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Reads, in this order: the newest tide (an MVCC snapshot), L (not MVCC, so never older than that snapshot), the
 * clock, and only then who holds RowExclusiveLock on the sequence and on the two tables ordered by a deadline.
 *
 * nextval takes that lock before it draws and keeps it to the end of the top transaction, so:
 * - whoever holds it now and did not hold it at an earlier tide has drawn only above the L of that tide;
 * - whoever does not hold it now, and draws later, draws above the L read here.
 * Hence everything up to the least of what the present holders are known to have drawn above has ended, and a
 * statement that takes its snapshot after this one sees what became of it (a lock is released after its transaction
 * has become visible). The same holds for deadlines, which are never written in the past (see _tick).
 * Who ticks in a transaction that has written is a holder like any other: what he sees of his own, others do not yet.
 * A prepared transaction changes its virtual transaction over a restart: while one holds a lock, nothing is safe.
 * A crash of one backend numbers them anew for all, and nothing else tells of it: so a holder is known by its process
 * too, or one of before would seem to go on in a namesake of after, and what it left would not be looked for.
 */
declare
    v_last tide;
    v_tide tide;
    v_last_at timestamptz;
    v_is_writer constant boolean := pg_current_xact_id_if_assigned() is not null;
begin
    select * into v_last from tide order by tide_id desc limit 1;
    v_last_at := nullif(v_last.at, '-infinity');
    select last_value - (not is_called)::integer into v_tide.position from position_seq;
    v_tide.at := clock_now();

    if v_tide.position <= v_last.resume_at then
        -- With room to spare, so that what others draw meanwhile stays below.
        perform setval('position_seq', v_last.resume_at + 100000);
    elsif v_tide.position < v_last.position then
        v_tide.resume_at := _tide_forget();
        v_last := null;
    elsif v_tide.at < v_last.at then
        -- The clock was set back: deadlines written since may lie below every mark.
        perform _tide_forget_deadlines();
        v_last.movers := '{}';
        v_last.moved_after := '{}';
        v_last.quiet_since := '-infinity';
        v_last.at := '-infinity';
    elsif v_tide.at < v_last.at + interval '100 ms' then
        return v_last; -- young enough, and what it found safe stays safe
    end if;

    begin
        with held as (
            select
                l.relation = 'position_seq'::regclass as is_holder,
                concat_ws('@', l.virtualtransaction, l.pid) as name,
                bool_or(l.pid is null) as is_prepared
            from pg_locks l
            where l.locktype = 'relation'
                and l.relation in ('position_seq'::regclass, 'scheduled'::regclass, 'lease'::regclass)
                and l.database = (select d.oid from pg_database d where d.datname = current_database())
                and l.mode = 'RowExclusiveLock'
                and (l.pid is distinct from pg_backend_pid() or v_is_writer)
            group by 1, 2
        ), known as (
            select
                h.*,
                coalesce(v_last.drew_above[array_position(v_last.holders, h.name)], v_last.position, 0) as drew_above,
                coalesce(
                    v_last.moved_after[array_position(v_last.movers, h.name)], v_last.at, '-infinity'
                ) as moved_after
            from held h
        )
        select
            coalesce(array_agg(k.name) filter (where k.is_holder), '{}'),
            coalesce(array_agg(k.drew_above) filter (where k.is_holder), '{}'),
            coalesce(min(k.drew_above) filter (where k.is_holder), v_tide.position),
            coalesce(array_agg(k.name) filter (where not k.is_holder), '{}'),
            coalesce(array_agg(k.moved_after) filter (where not k.is_holder), '{}'),
            coalesce(min(k.moved_after) filter (where not k.is_holder), v_tide.at),
            coalesce(bool_or(k.is_prepared), false)
        into
            v_tide.holders, v_tide.drew_above, v_tide.safe_position,
            v_tide.movers, v_tide.moved_after, v_tide.quiet_since,
            v_tide.is_blind
        from known k;
    exception
        when insufficient_privilege then
            -- Who may not look at pg_locks proves nothing: what was known stays, or else a tide that claims nothing.
            if v_last.tide_id is not null then
                return v_last;
            end if;
            v_tide.at := '-infinity';
            v_tide.position := 0;
            v_tide.safe_position := 0;
            v_tide.quiet_since := '-infinity';
            v_tide.holders := '{}';
            v_tide.drew_above := '{}';
            v_tide.movers := '{}';
            v_tide.moved_after := '{}';
            v_tide.is_blind := false;
    end;

    if v_tide.is_blind then
        v_tide.safe_position := coalesce(v_last.safe_position, 0);
        v_tide.quiet_since := coalesce(v_last.quiet_since, '-infinity');
    else
        v_tide.safe_position := greatest(v_tide.safe_position, v_last.safe_position);
    end if;

    begin
        v_tide.timeline := extract(epoch from pg_postmaster_start_time())::text
            || ' ' || left(pg_walfile_name(pg_current_wal_lsn()), 8);
    exception
        when others then
            v_tide.timeline := 'unknown'; -- a hosted server that forbids or lacks these: no outage is ever seen
    end;
    if v_tide.timeline is distinct from v_last.timeline then
        v_tide.outage_from := v_last_at;
        v_tide.outage_until := v_tide.at;
    else
        v_tide.outage_from := v_last.outage_from;
        v_tide.outage_until := v_last.outage_until;
    end if;

    insert into tide (
        at, position, safe_position, holders, drew_above, quiet_since, movers, moved_after, timeline, outage_from,
        outage_until, is_blind, resume_at
    ) values (
        v_tide.at, v_tide.position, v_tide.safe_position, v_tide.holders, v_tide.drew_above,
        v_tide.quiet_since, v_tide.movers, v_tide.moved_after, v_tide.timeline, v_tide.outage_from,
        v_tide.outage_until, v_tide.is_blind, v_tide.resume_at
    ) returning tide_id into v_tide.tide_id;

    -- A few seconds of tides are kept for the hint. The range is bounded below, so that this never walks what an
    -- old snapshot keeps vacuum from removing; rows that another tick is at are skipped.
    delete from tide where ctid = any(array(
        select t.ctid from tide t
        where t.tide_id between v_tide.tide_id - 128 and v_tide.tide_id - 64
        for update skip locked
    ));

    return v_tide;
end;
$$;

comment on function {{ schema }}._tide_advance() is
'Read the tide and append it: the last position drawn, who may still hold one, and up to where every position has ended. Returns the newest tide as it is when that is less than 100 ms old.';
