create or replace function {{ schema }}._doctor_look_upkeep(p_check text) returns setof {{ schema }}.diagnosis
language plpgsql volatile rows 3
set search_path = {{ schema }}, pg_temp
as $$
/* Whether somebody does the upkeep, and how it goes. Like _doctor_look, it writes nothing. */
declare
    v_now constant timestamptz := clock_now();
    v_ahead constant timestamptz := v_now + interval '10 seconds';
    v_seen text;
    v_count bigint;
    v_status text;
begin
    case p_check
        when 'maintenance' then
            -- The job that is due most often says whether anybody is there.
            select coalesce(max(d.started_at), '-infinity') into strict v_seen from maintenance_due() d;
            return query select p_check,
                case when v_seen::timestamptz > v_now - interval '1 minute' then 'ok' else 'fail' end,
                case
                    when v_seen::timestamptz = '-infinity' then 'no job of the upkeep has ever started'
                    else format('a job started %s ago', date_trunc('second', v_now - v_seen::timestamptz))
                end,
                case
                    when v_seen::timestamptz > v_now - interval '1 minute' then null
                    else 'Run tidegate maintain (or maintenance_due() from a scheduler): idle queues are not ticked '
                        'and nothing is cleaned up.'
                end;

        when 'leader' then
            -- What a leader is for. Whoever runs it from a scheduler, without one, is as good.
            select
                case
                    when d.due_in is null then 'recovery is paused'
                    when d.started_at is null then 'recovery has never started'
                    else format('recovery started %s ago', date_trunc('second', v_now - d.started_at))
                end || coalesce((
                    select format(
                        '; %s has epoch %s%s', coalesce(l.holder, 'nobody'), l.epoch,
                        case when v_now >= l.expires_at then ', which is over' end
                    )
                    from leader l where l.name = 'maintain'
                ), ''),
                case
                    when d.due_in is null then 'warn'
                    when d.started_at > v_now - interval '5 minutes' - 3 * d.every then 'ok'
                    else 'fail'
                end
            into v_seen, v_status
            from maintenance_due() d
            where d.job = 'recovery';
            return query select p_check, v_status, v_seen,
                case v_status
                    when 'warn'
                        then 'maintenance_configure(''recovery'', p_paused => false), when whatever it was is over.'
                    when 'fail'
                        then 'Nobody recovers: run tidegate maintain, one of which leads, or tidegate recover, once.'
                end;

        when 'upkeep' then
            select string_agg(
                    format('%s failed %s time(s) in a row: %s', u.job, u.failure_count, left(u.last_error, 200)), '; '
                    order by u.failure_count desc
                ), max(u.failure_count)
            into v_seen, v_count
            from (select distinct on (r.job) r.* from maintenance_run r order by r.job, r.entry desc) u
            where u.failure_count > 0;
            return query select p_check,
                case when v_count is null then 'ok' when v_count < 3 then 'warn' else 'fail' end,
                coalesce(v_seen, 'no job failed when it last ran'),
                case when v_seen is not null then 'Mend what the error says; the job is tried again by itself. See '
                    'the view upkeep.' end;

        when 'snapshot' then
            select format('the last snapshot is %s old', date_trunc('second', v_now - s.taken_at)),
                case
                    when s.failed_probes > 0 then s.failed_probes || ' probe(s) failed'
                    when s.taken_at < v_now - 5 * (select d.every
                        from maintenance_due() d where d.job = 'metrics') then 'stale'
                end
            into v_seen, v_status
            from metric_snapshot s
            order by s.snapshot_id desc limit 1;
            return query select p_check, case when v_seen is null or v_status is not null then 'warn' else 'ok' end,
                coalesce(v_seen || coalesce(', ' || v_status, ''), 'no snapshot was ever taken'),
                case when v_seen is null or v_status is not null
                    then 'Run tidegate maintain, of which metrics_snapshot() is a job: metrics() has no current '
                        'gauges.' end;

        when 'clock' then
            -- What was written before the clock was set back, by more than it takes to look. Of leases and barriers
            -- those that end last.
            select
                format(
                    '%s guard(s), %s lease(s) of messages, %s barrier(s), %s leader(s)',
                    n.guards, n.leases, n.barriers, n.leaders
                ),
                n.guards + n.leases + n.barriers + n.leaders
            into v_seen, v_count
            from (
                select
                    (
                        select count(*)
                        from (select from guard g where g.state = 'held' and g.renewed_at > v_ahead limit 1000) g
                    ) as guards,
                    (
                        select count(*) filter (where l.claimed_at > v_ahead)
                        from channel c
                        cross join lateral (
                            select e.claimed_at from lease e
                            where e.channel_id = c.channel_id and e.expires_at > v_ahead
                            order by e.expires_at desc
                            limit 100
                        ) l
                    ) as leases,
                    (
                        select count(*) filter (where b.opened_at > v_ahead)
                        from (
                            select o.opened_at from barrier o
                            where o.state in ('open', 'fire_failed') and o.look_at > v_ahead
                            order by o.look_at desc
                            limit 100
                        ) b
                    ) as barriers,
                    (
                        select count(*) from leader l where l.holder is not null and l.renewed_at > v_ahead
                    ) as leaders
            ) n;
            return query select p_check, case when v_count = 0 then 'ok' else 'warn' end,
                case when v_count = 0 then 'nothing is from a time that is still to come'
                    else 'from a time that is still to come: ' || v_seen end,
                case when v_count > 0 then 'The clock was set back. Leaders are replaced at once, guards a lease after '
                    'the next guard_claim; leases that nobody settles and deadlines of barriers end as much later as '
                    'it was ahead: barrier_abort, or wait.' end;
    end case;
end;
$$;

comment on function {{ schema }}._doctor_look_upkeep(text) is
'One check of doctor(): maintenance, leader, upkeep, snapshot or clock.';
