create or replace function {{ schema }}._tick(p_channel_id integer) returns bigint[]
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * One turn of the machine for one channel: a tide, due messages to ready, expired leases taken back, turns given in
 * groups that nobody holds, and a new floor row. Bounded in rows, and the taking back of leases in time too; it always
 * gets its turn, however slow the rest is.
 *
 * Who ticks: whoever gets the advisory lock, or anybody once the last tick is five seconds old (its holder hangs).
 * Two ticks at once are harmless: rows are moved under their locks, and any floor proven once stays true.
 *
 * Order matters. The tide comes first; the lowest live position of each priority is read afterwards, in a later
 * snapshot, in which everything that the tide found safe is visible or gone. Rows that an uncommitted claim has
 * deleted still count as live there.
 *
 * All of it is one subtransaction: whatever goes wrong is noted, the old floor is carried on, and the caller's claim
 * goes on. A timeout cuts what the next tick may move, until it fits.
 */
declare
    v_started timestamptz := clock_timestamp();
    v_floor floor;
    v_tide tide;
    v_reach bigint;
    v_look_from bigint;
    v_live bigint;
    v_any_live boolean := false;
    v_is_leased boolean;
    v_advance record;
    v_now timestamptz;
    v_pause interval := '250 ms';
    v_moved integer;
    v_priority smallint;
    v_deadline timestamptz;
begin
    select * into v_floor from floor where channel_id = p_channel_id order by floor_id desc limit 1;
    if not pg_try_advisory_xact_lock(_lock_key('floor'::regclass, p_channel_id))
        and clock_now() between v_floor.ticked_at and v_floor.ticked_at + interval '5 seconds'
    then
        return null;
    end if;

    begin
        v_tide := _tide_advance();
        select * into v_floor from floor where channel_id = p_channel_id order by floor_id desc limit 1;

        v_moved := _scheduled_promote(
            p_channel_id, v_floor.scheduled_from - interval '1 minute', v_floor.move_limit
        );
        v_floor.has_more := v_moved = v_floor.move_limit;
        v_moved := _lease_expire(p_channel_id, v_floor.lease_from - interval '1 minute', v_floor.move_limit);
        v_floor.has_more := v_floor.has_more or v_moved >= least(v_floor.move_limit, 100);

        -- Hints may run ahead of what is proven, but only past transactions that have been open for a second.
        select t.position into v_reach
        from tide t
        where t.tide_id > v_tide.tide_id - 64 and t.at < v_tide.at - interval '1 second'
        order by t.tide_id desc
        limit 1;
        v_reach := greatest(v_reach, v_tide.safe_position);

        select * into v_advance
        from _group_advance(
            p_channel_id, v_floor.grouped_to, v_tide.safe_position, least(v_reach, v_floor.position),
            v_floor.move_limit
        );
        v_floor.grouped_to := v_advance.grouped_to;
        v_floor.has_more := v_floor.has_more or v_advance.has_more;
        if v_advance.arrived > 0 then
            v_pause := '25 ms';
        end if;

        -- What the last tick has seen below its hints is gone. Since then only those can have left something there who
        -- held a position at that time and have ended: so that is how far down the look goes, and while a transaction
        -- stays open, however long, nobody walks over what was consumed beside it.
        v_look_from := 0;
        if v_floor.timeline = v_tide.timeline and v_tide.timeline <> 'unknown' and not v_tide.is_blind then
            select min(h.drew_above) into v_look_from
            from unnest(v_floor.holders, v_floor.drew_above) h (name, drew_above)
            where h.name <> all(v_tide.holders);
        end if;

        v_floor.priorities := _priorities(p_channel_id);
        foreach v_priority in array v_floor.priorities loop
            v_live := (
                select r.position from ready r
                where r.channel_id = p_channel_id and r.priority = v_priority
                    and r.position > greatest(
                        v_floor.floors[v_priority + 1], least(v_look_from, v_floor.hints[v_priority + 1])
                    )
                order by r.position
                limit 1
            );
            v_any_live := v_any_live or v_live is not null;
            v_floor.floors[v_priority + 1] := greatest(
                v_floor.floors[v_priority + 1], least(v_tide.safe_position, v_live - 1)
            );
            v_floor.hints[v_priority + 1] := greatest(
                v_floor.floors[v_priority + 1], least(v_reach, v_live - 1)
            );
        end loop;

        -- Ready, then leased, then scheduled: the order in which a message may go on without a position drawn, so
        -- that none passes by unseen.
        select l.expires_at into v_deadline
        from lease l
        where l.channel_id = p_channel_id and l.expires_at >= v_floor.lease_from - interval '1 minute'
        order by l.expires_at
        limit 1;
        v_is_leased := found;
        v_floor.lease_from := least(v_tide.quiet_since, v_deadline);

        select s.due_at into v_deadline
        from scheduled s
        where s.channel_id = p_channel_id and s.due_at >= v_floor.scheduled_from - interval '1 minute'
        order by s.due_at
        limit 1;
        v_floor.scheduled_from := least(v_tide.quiet_since, v_deadline);
        v_floor.idle_until := coalesce(v_deadline, 'infinity');

        v_floor.position := v_tide.position;
        v_floor.timeline := case when not v_tide.is_blind then v_tide.timeline end;
        v_floor.holders := v_tide.holders;
        v_floor.drew_above := v_tide.drew_above;
        -- Quiet: until a position is drawn, or something is due, no tick has anything to do. One in whose group
        -- somebody was handing over just now is looked for again.
        v_floor.is_quiet := not v_any_live and cardinality(v_tide.holders) = 0
            and v_floor.grouped_to >= v_tide.position;
        -- Idle: nothing ready, leased or on its way, so until the next deadline nothing comes but by a position drawn.
        if not v_floor.is_quiet or v_tide.is_blind or cardinality(v_tide.movers) > 0 or v_floor.has_more
            or v_is_leased
        then
            v_floor.idle_until := null;
        end if;
        v_floor.move_limit := least(v_floor.move_limit * 2, 1000);
    exception
        when others or query_canceled then
            perform _incident_note('_tick', p_channel_id, sqlstate, sqlerrm);
            select * into v_floor from floor where channel_id = p_channel_id order by floor_id desc limit 1;
            v_floor.has_more := true;
            v_floor.idle_until := null;
            v_floor.move_limit := greatest(v_floor.move_limit / 8, 1);
    end;

    -- What counts as its duration is bounded: a tick that waited for somebody's lock must not silence the next ones.
    v_now := clock_now();
    v_floor.took := greatest('0', least(clock_timestamp() - v_started, '500 ms'));
    insert into floor (
        channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
        scheduled_from, lease_from, tick_at, grouped_to, idle_until, timeline, holders, drew_above
    ) values (
        p_channel_id, v_now, v_floor.took,
        v_floor.position, v_floor.is_quiet, v_floor.has_more, v_floor.move_limit, v_floor.priorities, v_floor.floors,
        v_floor.hints, v_floor.scheduled_from, v_floor.lease_from,
        v_now + greatest(case when v_floor.has_more then '0' else v_pause end, 10 * v_floor.took),
        v_floor.grouped_to, v_floor.idle_until, v_floor.timeline, v_floor.holders, v_floor.drew_above
    );
    -- The row this one follows. Skipped where another tick is at it: two ticks never wait for each other.
    delete from floor where ctid = any(array(
        select f.ctid from floor f
        where f.channel_id = p_channel_id and f.floor_id = v_floor.floor_id
        for update skip locked
    ));

    return v_floor.hints;
end;
$$;

comment on function {{ schema }}._tick(integer) is
'Move what is due and expired in a channel, and raise its floors and hints. Returns the hints by priority + 1, or null when somebody else is ticking.';
