create or replace function {{ schema }}._leases_recover(
    p_limit integer, p_leader_epoch bigint, out expired integer, out errors jsonb
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Claims and maintenance_tick take expired leases back within a second: what is here has been out for ten. It is found
 * by the marks of the last tick. Channels come in any order, so that some whose leases are held, or that fail, do not
 * stand before the others each time.
 */
declare
    v_now constant timestamptz := clock_now();
    v_stop constant timestamptz := clock_timestamp() + interval '500 ms';
    v_channel record;
begin
    expired := 0;
    errors := '{}';
    for v_channel in
        select c.channel_id, c.kind, c.name, f.lease_from
        from channel c
        cross join lateral (
            select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
        ) f
        where exists (
            select from lease l
            where l.channel_id = c.channel_id
                and l.expires_at >= f.lease_from - interval '1 minute' and l.expires_at <= v_now - interval '10 seconds'
        )
        order by random()
        limit p_limit
    loop
        exit when expired >= p_limit or clock_timestamp() > v_stop;
        begin
            expired := expired + coalesce((
                select _lease_expire(v_channel.channel_id, v_channel.lease_from - interval '1 minute', p_limit)
                where _leader_check('maintain', p_leader_epoch)
            ), 0);
        exception
            when others then
                if sqlstate = 'TG090' then
                    raise;
                end if;
                errors := errors || jsonb_build_object(
                    format('%s %s', v_channel.kind, v_channel.name), sqlstate || ': ' || _error_text(sqlerrm)
                );
                perform _incident_note('recovery_sweep', v_channel.channel_id, sqlstate, sqlerrm);
        end;
    end loop;
end;
$$;

comment on function {{ schema }}._leases_recover(integer, bigint) is
'Take back leases that ran out ten seconds ago and that no tick has seen, of up to p_limit channels. Returns how many were looked at, and what failed by channel. Errors: TG090 the leader''s epoch is over.';
