create or replace function {{ schema }}.metrics_snapshot(
    p_limit integer default 100000,
    out samples integer,
    out estimates integer,
    out errors jsonb
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set lock_timeout = '500ms'
as $$
/*
 * Each probe is a subtransaction: one that fails leaves its samples out, and the others go on. Counting ends after two
 * seconds, whatever is there; when the caller's statement_timeout strikes, what is done is kept.
 */
declare
    v_started constant timestamptz := clock_timestamp();
    v_now constant timestamptz := clock_now();
    v_position bigint;
    v_probe text;
    v_samples jsonb := '[]';
    v_found jsonb;
    v_id bigint;
begin
    if p_limit is null or p_limit not between 1 and 10000000 then
        perform _bad_argument('p_limit', p_limit::text, 'Count up to between 1 and 10000000 messages of a place.');
    end if;
    errors := '{}';
    -- First the position, then the clock: what stands at or below a mark was drawn before it.
    select last_value - (not is_called)::integer into v_position from position_seq;
    delete from position_mark m where m.position > v_position; -- the sequence was set back
    insert into position_mark (position, at)
    select v_position, clock_now()
    where v_position > coalesce((select max(m.position) from position_mark m), 0)
    on conflict do nothing;

    foreach v_probe in array array['incident', 'horizon', 'table', 'barrier', 'dead_letter', 'guard', 'channel'] loop
        begin
            select jsonb_agg(jsonb_build_object('name', p.name, 'labels', p.labels, 'value', p.value)) into v_found
            from _metrics_probe(v_probe, p_limit, v_started + interval '2 seconds') p
            where p.value is not null;
            v_samples := v_samples || coalesce(v_found, '[]');
        exception
            when others or query_canceled then
                errors := errors || jsonb_build_object(v_probe, sqlstate || ': ' || _error_text(sqlerrm));
                exit when sqlstate = '57014';
        end;
    end loop;

    samples := jsonb_array_length(v_samples);
    estimates := coalesce((
        select s.value::integer from jsonb_to_recordset(v_samples) as s (name text, value double precision)
        where s.name = 'tidegate_snapshot_estimates'
    ), 0);
    insert into metric_snapshot (taken_at, took, failed_probes, samples, totals)
    select
        v_now, clock_timestamp() - v_started, (select count(*) from jsonb_object_keys(errors)), v_samples,
        coalesce(jsonb_object_agg(t.channel_id, t.totals), '{}')
    from (
        select n.channel_id, jsonb_object_agg(n.outcome, n.total) as totals
        from (select y.channel_id, y.outcome, sum(y.amount) as total from tally y group by y.channel_id, y.outcome) n
        group by n.channel_id
    ) t
    returning snapshot_id into v_id;

    delete from metric_snapshot where ctid = any(array(
        select s.ctid from metric_snapshot s
        where s.snapshot_id < v_id and s.taken_at not between v_now - interval '15 minutes' and v_now
        for update skip locked
    ));
    delete from position_mark where ctid = any(array(
        select m.ctid from position_mark m
        where m.at not between v_now - interval '7 days' and clock_now()
        for update skip locked
    ));
end;
$$;

comment on function {{ schema }}.metrics_snapshot(integer) is
'Look at every place once, for metrics() to tell: a job of the upkeep, every minute. Up to p_limit messages of a place are counted, and for two seconds; above that the count is an estimate. Returns how many samples and estimates there are, and errors by probe, whose samples are absent; {} when all succeeded. Errors: TG010 bad limit.';
