create or replace function {{ schema }}._ready_wait(p_channel_id integer) returns interval
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * A message does not say since when it is ready: it may have been put for next week. Its position does: it was drawn
 * before any mark at or above it. One probe a priority, from the floor, so that what is dead is not visited.
 */
declare
    v_now constant timestamptz := clock_now();
    v_head record;
    v_at timestamptz;
begin
    select h.position, h.enqueued_at into v_head
    from (select f.floors from floor f where f.channel_id = p_channel_id order by f.floor_id desc limit 1) f
    cross join unnest(_priorities(p_channel_id)) p (priority)
    cross join lateral (
        select r.position, r.enqueued_at from ready r
        where r.channel_id = p_channel_id and r.priority = p.priority and r.position > f.floors[p.priority + 1]
        order by r.position
        limit 1
    ) h
    order by h.position
    limit 1;
    if not found then
        return null;
    end if;
    select m.at into v_at from position_mark m where m.position >= v_head.position order by m.position, m.at limit 1;
    if found then
        return greatest(v_now - v_at, '0');
    end if;
    -- Drawn since the last snapshot. Where nobody takes snapshots, that may be long ago: it waits no longer than this.
    select s.taken_at into v_at from metric_snapshot s order by s.snapshot_id desc limit 1;
    if v_at > v_now - interval '2 minutes' then
        return '0';
    end if;
    return greatest(v_now - greatest(v_at, v_head.enqueued_at), '0');
end;
$$;

comment on function {{ schema }}._ready_wait(integer) is
'How long the longest waiting message of a channel has been ready, at least, to the interval of snapshots; without recent snapshots at most. Null when none is ready.';
