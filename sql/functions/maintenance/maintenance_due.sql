create or replace function {{ schema }}.maintenance_due() returns setof {{ schema }}.maintenance_job
language plpgsql volatile rows 10
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The list of what an installation needs done, and how often. Statements differ in what they report: each is written
 * so that it answers again, error, result. A job stands here before the release that brings its function is installed.
 */
declare
    v_now constant timestamptz := clock_now();
begin
    return query
    select
        j.job,
        format(j.statement, current_schema),
        j.every,
        coalesce(r.due_at, v_now) - v_now,
        coalesce(r.due_at, v_now),
        r.started_at,
        r.succeeded_at,
        coalesce(r.failure_count, 0),
        r.last_error
    from (values
        (
            'tick', 'maintenance_tick', interval '1 second',
            'select t.has_more as again, t.first_error as error, to_jsonb(t) as result from %I.maintenance_tick() t'
        ),
        (
            'recovery', 'recovery_sweep', interval '5 seconds',
            'select false as again, null::text as error, to_jsonb(s) as result from %I.recovery_sweep() s'
        ),
        (
            'counters', 'counter_reconcile', interval '2 minutes',
            'select false as again, '
            'string_agg(c.key || '' kept: see incident'', ''; '') filter (where c.outcome = ''kept'') as error, '
            'jsonb_build_object(''counters'', count(*), ''skew'', coalesce(sum(c.skew), 0)) as result '
            'from %I.counter_reconcile() c'
        ),
        (
            'cleanup', 'cleanup_sweep', interval '5 minutes',
            'select c.has_more as again, nullif(c.errors::text, ''{}'') as error, to_jsonb(c) as result '
            'from %I.cleanup_sweep() c'
        )
    ) as j (job, routine, every, statement)
    left join lateral (
        select * from maintenance_run n where n.job = j.job order by n.entry desc limit 1
    ) r on true
    where to_regproc(format('%I.%I', current_schema, j.routine)) is not null
    order by 5, 3;
end;
$$;

comment on function {{ schema }}.maintenance_due() is
'Every job of the upkeep, what is due first on top: what to call, how often, when next, and how it went. Whoever runs one: maintenance_start, the statement in a transaction of its own, maintenance_finish.';
