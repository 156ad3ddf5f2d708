create or replace function {{ schema }}._doctor_look(p_check text) returns setof {{ schema }}.diagnosis
language plpgsql volatile rows 3
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/* Bounded: a check names the worst few, and looks no further. Nothing here writes: a standby may be asked, too. */
declare
    v_now constant timestamptz := clock_now();
    v_seen text;
    v_count bigint;
    v_status text;
begin
    case p_check
        when 'schema' then
            select string_agg(distinct r.version, ', ' order by r.version), count(distinct r.version)
            into v_seen, v_count
            from routine r;
            return query select p_check, case when v_count = 1 then 'ok' else 'fail' end,
                format('migration %s, routines of release %s', (schema_version()).migration, coalesce(v_seen, 'none')),
                case when v_count <> 1 then 'Run tidegate migrate: routines of several releases, or none, are '
                    'installed.' end;

        when 'incidents' then
            select count(*), max(format('%s: %s', i.routine, left(i.message, 200)))
            into v_count, v_seen
            from (select * from incident n order by n.incident_id desc limit 1000) i
            where i.at > v_now - interval '1 hour';
            return query select p_check, case when v_count = 0 then 'ok' else 'warn' end,
                format('%s in the last hour%s', v_count, ', such as ' || v_seen),
                case when v_count > 0 then 'Read the table incident: a tick or a sweep met these errors and went '
                    'on.' end;

        when 'expired_leases' then
            select count(*), max(format('%s %s: %s', n.kind, n.name, date_trunc('second', v_now - n.expires_at)))
            into v_count, v_seen
            from (
                select c.kind, c.name, l.expires_at
                from channel c
                cross join lateral (
                    select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
                ) f
                cross join lateral (
                    select e.expires_at from lease e
                    where e.channel_id = c.channel_id and e.expires_at >= f.lease_from - interval '1 minute'
                        and e.expires_at <= v_now - interval '30 seconds'
                    order by e.expires_at
                    limit 1000
                ) l
                where not (c.is_paused and c.kind = 'topic')
            ) n;
            return query select p_check, case when v_count = 0 then 'ok' else 'fail' end,
                format('%s expired more than 30 seconds ago%s', v_count, ', such as ' || v_seen),
                case when v_count > 0
                    then 'Nobody ticks these channels: run tidegate maintain. If it runs, see the checks upkeep and '
                        'incidents.' end;

        when 'overdue' then
            select string_agg(
                format('%s %s for %s', c.kind, c.name, date_trunc('second', v_now - s.due_at)), '; ' order by s.due_at
            ) into v_seen
            from channel c
            cross join lateral (
                select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
            ) f
            cross join lateral (
                select n.due_at from scheduled n
                where n.channel_id = c.channel_id and n.due_at >= f.scheduled_from - interval '1 minute'
                    and n.due_at <= v_now - interval '1 minute'
                order by n.due_at
                limit 1
            ) s;
            return query select p_check, case when v_seen is null then 'ok' else 'fail' end,
                coalesce('scheduled messages are due and not ready: ' || v_seen, 'whatever is due is ready'),
                case when v_seen is not null
                    then 'Nobody ticks these channels: run tidegate maintain. If it runs, see the checks upkeep and '
                        'incidents.' end;

        when 'paused' then
            select string_agg(format('%s %s', c.kind, c.name), ', ' order by c.kind, c.name) into v_seen
            from channel c
            where c.is_paused and _ready_wait(c.channel_id) is not null;
            return query select p_check, case when v_seen is null then 'ok' else 'warn' end,
                coalesce('paused, and messages wait: ' || v_seen, 'nothing waits in a paused channel'),
                case when v_seen is not null then 'queue_resume or topic_resume, when whatever it was is over.' end;

        when 'queues' then
            select string_agg(
                format('%s: ready for %s, and nobody holds a lease', n.name, date_trunc('second', n.waited)), '; '
                order by n.waited desc
            ) into v_seen
            from (
                select c.name, _ready_wait(c.channel_id) as waited
                from channel c
                where c.kind = 'queue' and not c.is_paused
                    and not exists (select from lease l where l.channel_id = c.channel_id)
            ) n
            where n.waited >= interval '1 minute';
            return query select p_check, case when v_seen is null then 'ok' else 'fail' end,
                coalesce(v_seen, 'every queue with work has somebody who works'),
                case when v_seen is not null then 'No worker takes from it: run tidegate work, or queue_work from '
                    'psql.' end;

        when 'topics' then
            select string_agg(
                format(
                    '%s: %s for %s', n.name,
                    case when n.is_routed then 'not swept' else 'no route, and not relayed' end,
                    date_trunc('second', n.waited)
                ), '; ' order by n.waited desc
            ) into v_seen
            from (
                select c.name, c.is_routed, _ready_wait(c.channel_id) as waited
                from channel c
                where c.kind = 'topic' and not c.is_paused
                    and not exists (select from lease l where l.channel_id = c.channel_id)
            ) n
            where n.waited >= interval '1 minute';
            return query select p_check, case when v_seen is null then 'ok' else 'fail' end,
                coalesce(v_seen, 'events of every topic leave it'),
                case when v_seen is not null
                    then 'Not swept: run tidegate sweep --follow. No route: outbox_route, or tidegate relay TOPIC '
                        '--to …' end;

        when 'outcomes' then
            -- What the counters did since the oldest snapshot of the last quarter of an hour.
            return query
            with former as (
                select s.totals, s.taken_at from metric_snapshot s
                where s.taken_at between v_now - interval '15 minutes' and v_now
                order by s.snapshot_id
                limit 1
            ), moved as (
                select c.kind, c.name,
                    sum(t.amount) filter (where t.outcome in ('acked', 'dispatched')) as succeeded,
                    sum(t.amount) filter (where t.outcome in ('retried', 'dead_lettered')) as failed,
                    sum(t.amount) filter (where t.outcome = 'released') as released,
                    min(t.taken_at) as since
                from channel c
                cross join lateral (
                    select y.outcome, f.taken_at,
                        sum(y.amount) - coalesce((f.totals -> c.channel_id::text ->> y.outcome)::bigint, 0) as amount
                    from former f
                    inner join tally y on y.channel_id = c.channel_id
                    group by y.outcome, f.taken_at, f.totals
                ) t
                group by c.kind, c.name
            ), judged as (
                select m.*, case
                    when coalesce(m.succeeded, 0) = 0 and m.failed > 0 then 'fail'
                    when coalesce(m.succeeded, 0) = 0 and m.released > 0 then 'down'
                    when m.failed > 0 then 'warn'
                end as verdict
                from moved m
            )
            select v.name,
                case
                    when count(j.name) = 0 then 'ok'
                    when v.name = 'partial_failure' and bool_and(j.verdict = 'warn') then 'warn'
                    else 'fail'
                end,
                coalesce(
                    string_agg(
                        format(
                            '%s %s: %s succeeded, %s failed, %s released since %s ago', j.kind, j.name,
                            coalesce(j.succeeded, 0), coalesce(j.failed, 0), coalesce(j.released, 0),
                            date_trunc('second', v_now - j.since)
                        ), '; ' order by j.name
                    ) filter (where j.name is not null),
                    case v.name
                        when 'transport' then 'nothing is released again and again'
                        else 'nothing failed of late'
                    end
                ),
                case when count(j.name) > 0 then v.advice end
            from (values
                (
                    'partial_failure', array['fail', 'warn'],
                    'Read the errors: dead_letter_list(p_channel => …), queue_peek(…, p_place => ''scheduled''), or '
                        'the log of the worker.'
                ),
                (
                    'transport', array['down'],
                    'What it is handed to cannot be reached: look at the broker and at the log of the relay. No '
                        'attempt is charged.'
                )
            ) as v (name, verdicts, advice)
            left join judged j on j.verdict = any(v.verdicts)
            group by v.name, v.advice;

        when 'handlers' then
            select string_agg(distinct format('%s (topic %s)', r.handler, r.topic), ', ') into v_seen
            from route r
            where r.handler is not null and _handler_oid(r.handler) is null;
            return query select p_check, case when v_seen is null then 'ok' else 'fail' end,
                coalesce('there is no such function: ' || v_seen, 'every route has its handler'),
                case when v_seen is not null then 'Create the function, or take the route away with outbox_unroute. '
                    'Its events wait, uncharged.' end;

        when 'dead_letters' then
            select string_agg(format('%s %s: %s, oldest of %s ago', n.kind, n.channel,
                    case when n.entries > 1000 then 'more than 1000' else n.entries::text end,
                    date_trunc('second', v_now - n.oldest_at)), '; ' order by n.oldest_at)
            into v_seen
            from (
                with recursive named as (
                    (select d.channel from dead_letter d order by d.channel limit 1)
                    union all
                    select (select d.channel from dead_letter d where d.channel > m.channel order by d.channel limit 1)
                    from named m
                    where m.channel is not null
                )
                select d.kind, d.channel, count(*) as entries, min(d.dead_at) as oldest_at
                from named m
                cross join lateral (
                    select e.kind, e.channel, e.dead_at from dead_letter e
                    where e.channel = m.channel and e.state = 'dead'
                    limit 1001
                ) d
                group by d.kind, d.channel
            ) n;
            return query select p_check, case when v_seen is null then 'ok' else 'warn' end,
                coalesce(v_seen, 'none that nobody has dealt with'),
                case when v_seen is not null then 'tidegate dead-letter list; then dead_letter_requeue or '
                    'dead_letter_discard.' end;

        when 'barriers' then
            select count(*) filter (where n.state = 'open'), min(n.name) filter (where n.state = 'open'),
                count(*) filter (where n.state = 'fire_failed')::text
            into v_count, v_seen, v_status
            from (
                select b.state, b.name from barrier b
                where b.state in ('open', 'fire_failed')
                    and (
                        b.state = 'fire_failed' -- however long recovery has put it off
                        or b.look_at <= v_now and b.expires_at <= v_now
                        or b.look_at <= v_now and v_now >= b.stall_after + greatest(b.opened_at, b.kept_at, (
                            select max(s.arrived_at) from barrier_slot s where s.epoch = b.epoch
                        ))
                    )
                limit 1000
            ) n;
            return query select p_check,
                case when v_count > 0 then 'fail' when v_status <> '0' then 'warn' else 'ok' end,
                format('%s stranded%s, %s whose callback failed', v_count, ' such as ' || v_seen, v_status),
                case when v_count > 0 or v_status <> '0'
                    then 'See barrier_progress: its members'' messages, then barrier_resolve or barrier_abort. A '
                        'callback that failed is a dead letter.' end;

        when 'stranded' then
            select string_agg(format('%s %s', c.kind, c.name), ', ') into v_seen
            from channel c
            cross join lateral (
                select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
            ) f
            where exists (
                select from unnest(f.priorities) p (priority)
                cross join lateral (
                    select from ready r
                    where r.channel_id = c.channel_id and r.priority = p.priority
                        and r.position <= f.floors[p.priority + 1]
                    limit 1
                ) r
            );
            select coalesce(sum(y.amount), 0) into v_count from tally y where y.outcome = 'stranded';
            return query select p_check,
                case when v_seen is not null then 'fail' when v_count > 0 then 'warn' else 'ok' end,
                concat_ws('; ', 'messages stand below a floor: ' || v_seen, format('%s were put back since the '
                    'installation', v_count)),
                case when v_seen is not null then 'select cleanup_sweep() puts them back. Was position_seq set back?'
                    when v_count > 0 then 'Whatever set position_seq back has cost a delay: see incident, and keep '
                        'copies from doing it.' end;

        when 'orphans' then
            with recursive used as (
                (select 'ready' as place, (select min(r.channel_id) from ready r) as channel_id)
                union all
                select u.place, (select min(r.channel_id) from ready r where r.channel_id > u.channel_id)
                from used u where u.channel_id is not null
            ), held as (
                select count(*) as guards
                from (select from guard g where g.state = 'held' and g.expires_at < v_now - interval '1 '
                    'hour' limit 1000) g
            )
            select count(*), (select h.guards from held h)::text into v_count, v_seen
            from used u
            where u.channel_id is not null and not exists (select from channel c where c.channel_id = u.channel_id);
            return query select p_check, case when v_count > 0 then 'fail' when v_seen <> '0' then 'warn' else 'ok' end,
                format('%s dropped channel(s) with messages, %s guard(s) held beyond their lease for an '
                    'hour', v_count, v_seen),
                case
                    when v_count > 0 then 'Messages of a channel that is no more: tell us; they are in ready, by '
                        'channel_id.'
                    when v_seen <> '0' then 'Their owners died: the next guard_claim takes them over; where none '
                        'comes, recovery or guard_release.'
                end;
    end case;
end;
$$;

comment on function {{ schema }}._doctor_look(text) is 'What one check of doctor() finds in the installation; the check of outcomes answers for two.';
