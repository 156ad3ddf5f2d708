create or replace function {{ schema }}.maintenance_tick(
    p_limit integer default 100,
    out ticked integer,
    out failed integer,
    out has_more boolean,
    out first_error text
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Claims tick where there are claims. Here it is the turn of the others: where a deadline has passed, or the last tick
 * had more to do, and once a minute wherever something was drawn, so that no floor falls far behind. What is idle is
 * only looked at.
 *
 * What a tick moves is unseen until this commits, and its locks stand as long: it ends after half a second.
 */
declare
    v_started constant timestamptz := clock_timestamp();
    v_now constant timestamptz := clock_now();
    v_drawn constant bigint := coalesce(pg_sequence_last_value('position_seq'), 0);
    v_channel record;
    v_ticked integer[] := '{}';
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('maintenance_tick');
    end if;
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Tick between 1 and 10000 channels at a time.');
    end if;
    ticked := 0;
    failed := 0;
    has_more := false;
    for v_channel in
        select c.channel_id, c.kind, c.name
        from channel c
        cross join lateral (
            select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
        ) f
        where v_now not between f.ticked_at and f.tick_at
            and (
                v_now < f.ticked_at
                or f.has_more
                or (v_now > f.ticked_at + interval '1 minute' and (f.position <> v_drawn or not f.is_quiet))
                or exists (
                    select from scheduled s
                    where s.channel_id = c.channel_id
                        and s.due_at >= f.scheduled_from - interval '1 minute' and s.due_at <= v_now
                )
                or exists (
                    select from lease l
                    where l.channel_id = c.channel_id
                        and l.expires_at >= f.lease_from - interval '1 minute' and l.expires_at <= v_now
                )
            )
        order by f.tick_at
        limit p_limit + 1
    loop
        if ticked + failed = p_limit or clock_timestamp() > v_started + interval '500 ms' then
            has_more := true;
            exit;
        end if;
        begin
            perform _tick(v_channel.channel_id);
            ticked := ticked + 1;
            v_ticked := v_ticked || v_channel.channel_id;
        exception
            when others or query_canceled then
                failed := failed + 1;
                first_error := coalesce(first_error, format('%s %s: %s', v_channel.kind, v_channel.name, sqlerrm));
                perform _incident_note('maintenance_tick', v_channel.channel_id, sqlstate, sqlerrm);
                exit when sqlstate = '57014';
        end;
    end loop;
    -- A tick goes on from most errors by itself, and notes them.
    if ticked > 0 then
        first_error := coalesce(first_error, (
            select format('%s: %s', i.routine, i.message)
            from (select * from incident n order by n.incident_id desc limit 50) i
            where i.channel_id = any(v_ticked) and i.at >= v_now
            order by i.incident_id
            limit 1
        ));
    end if;
end;
$$;

comment on function {{ schema }}.maintenance_tick(integer) is
'Turn the machine for channels that nobody claims from: due messages to ready, expired leases taken back. Up to p_limit channels, whichever has waited longest first. Returns how many; has_more: call again; first_error: what went wrong in one of them, while the others went on. Call it in a transaction of its own. Errors: TG010 bad limit, TG030 not READ COMMITTED.';
