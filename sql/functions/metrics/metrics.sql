{% from "macros/metric.sql" import outcomes, reasons, routines %}
create or replace function {{ schema }}.metrics() returns setof {{ schema }}.metric
language plpgsql volatile rows 500
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * A scrape reads no place: counters are sums of tally, which cleanup folds, and gauges are those of the last snapshot.
 * A snapshot of long ago says nothing of now: after ten of its intervals its gauges are absent. Counters of every
 * outcome are there from the beginning, so that the first one is an increase.
 */
declare
    v_now constant timestamptz := clock_now();
    v_installed constant installed := schema_version();
    v_snapshot metric_snapshot;
begin
    return query
    select m.name, m.type, s.labels, s.value::double precision, m.help
    from (values
        ('tidegate_info', jsonb_build_object('version', v_installed.version), 1),
        ('tidegate_schema_version', '{}', v_installed.migration),
        ('tidegate_standby', '{}', pg_is_in_recovery()::integer)
    ) as s (name, labels, value)
    inner join _metric_list() m on m.name = s.name;
    if pg_is_in_recovery() then
        return;
    end if;

    return query
    with total as (
        select y.channel_id, y.outcome, sum(y.amount) as amount from tally y group by y.channel_id, y.outcome
    ), sample as (
        select 'tidegate_messages_total' as name,
            jsonb_build_object('kind', c.kind, 'channel', c.name, 'outcome', o.outcome) as labels,
            coalesce(t.amount, 0)::double precision as value
        from channel c
        cross join unnest(array[{{ outcomes }}]) o (outcome)
        left join total t on t.channel_id = c.channel_id and t.outcome = o.outcome
        union all
        select 'tidegate_dead_lettered_total',
            jsonb_build_object('kind', c.kind, 'channel', c.name, 'reason', r.reason), coalesce(t.amount, 0)
        from channel c
        cross join unnest(array[{{ reasons }}]) r (reason)
        left join total t on t.channel_id = c.channel_id and t.outcome = 'dead_letter.' || r.reason
        union all
        select 'tidegate_leases_recovered_total',
            jsonb_build_object('kind', c.kind, 'channel', c.name, 'how', h.how), coalesce(t.amount, 0)
        from channel c
        cross join unnest(array['charged', 'halved', 'spared']) h (how)
        left join total t on t.channel_id = c.channel_id and t.outcome = 'lease.' || h.how
        union all
        select 'tidegate_recovered_total', jsonb_build_object('what', w.what), coalesce(t.amount, 0)
        from unnest(array['resent', 'refired', 'failed', 'reclaimed', 'asked', 'guards']) w (what)
        left join total t on t.channel_id = 0 and t.outcome = 'recovered.' || w.what
        union all
        select 'tidegate_errors_total', jsonb_build_object('routine', r.routine), coalesce(sum(t.amount), 0)
        from unnest(array[{{ routines }}, 'other']) r (routine)
        left join total t on t.channel_id = 0 and case
            when r.routine = 'other'
                then t.outcome like 'error.%' and substr(t.outcome, 7) not in ({{ routines }})
            else t.outcome = 'error.' || r.routine
        end
        group by r.routine
        union all
        select 'tidegate_stranded_total', '{}', coalesce(sum(t.amount), 0) from total t where t.outcome = 'stranded'
        union all
        select 'tidegate_positions_total', '{}', q.last_value - (not q.is_called)::integer from position_seq q
        union all
        select 'tidegate_leaders', jsonb_build_object('state', s.state),
            (
                select count(*) from leader l
                where s.state = case
                    when l.holder is null then 'resigned' when v_now >= l.expires_at then 'expired' else 'held'
                end
            )
        from (values ('held'), ('expired'), ('resigned')) as s (state)
        union all
        select 'tidegate_leader_epoch', '{}', coalesce(
            (select l.epoch from leader l where l.name = 'maintain'), 0
        )
    )
    select m.name, m.type, s.labels, s.value, m.help from sample s inner join _metric_list() m on m.name = s.name;

    return query
    select m.name, m.type, jsonb_build_object('upkeep', j.job), s.value::double precision, m.help
    from (
        select d.job, d.every, d.due_in is null as is_paused, d.started_at, d.succeeded_at, d.failure_count
        from maintenance_due() d
        union all
        -- Parts of a cleanup that ever failed.
        select r.job, null, false, null, r.succeeded_at, r.failure_count
        from (select distinct on (n.job) n.* from maintenance_run n order by n.job, n.entry desc) r
        where r.job like 'cleanup.%'
    ) j
    cross join lateral (values
        ('tidegate_upkeep_interval_seconds', case when not j.is_paused then extract(epoch from j.every) end),
        ('tidegate_upkeep_failures', j.failure_count),
        ('tidegate_upkeep_last_start_timestamp_seconds', extract(epoch from j.started_at)),
        ('tidegate_upkeep_last_success_timestamp_seconds', extract(epoch from j.succeeded_at))
    ) as s (name, value)
    inner join _metric_list() m on m.name = s.name
    where s.value is not null;

    select * into v_snapshot from metric_snapshot s order by s.snapshot_id desc limit 1;
    if not found then
        return;
    end if;
    return query
    select m.name, m.type, '{}'::jsonb, s.value::double precision, m.help
    from (values
        ('tidegate_snapshot_age_seconds', greatest(extract(epoch from v_now - v_snapshot.taken_at), 0)),
        ('tidegate_snapshot_duration_seconds', extract(epoch from v_snapshot.took)),
        ('tidegate_snapshot_failed_probes', v_snapshot.failed_probes)
    ) as s (name, value)
    inner join _metric_list() m on m.name = s.name;
    if v_now < v_snapshot.taken_at + 10 * (select d.every from maintenance_due() d where d.job = 'metrics') then
        return query
        select m.name, m.type, s.labels, s.value, m.help
        from jsonb_to_recordset(v_snapshot.samples) as s (name text, labels jsonb, value double precision)
        inner join _metric_list() m on m.name = s.name;
    end if;
end;
$$;

comment on function {{ schema }}.metrics() is
'Every sample: counters, exact and never falling; and gauges as metrics_snapshot last found them, absent when a probe failed or the snapshot is ten intervals old. Reads no queue, so it may be scraped every few seconds. A standby tells its version, and nothing of queues.';
