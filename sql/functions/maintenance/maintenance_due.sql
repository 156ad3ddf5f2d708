create or replace function {{ schema }}.maintenance_due(
    p_leader_epoch bigint default null
) returns setof {{ schema }}.maintenance_job
language plpgsql volatile rows 10
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The list of what an installation needs done, and how often. Statements differ in what they report: each is written
 * so that it answers again, error, systemic, result. A job without its function is left out.
 */
declare
    v_now constant timestamptz := clock_now();
begin
    return query
    select
        j.job,
        format(j.statement, current_schema, p_leader_epoch),
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
            'select t.has_more as again, t.first_error as error, t.ticked = 0 as systemic, to_jsonb(t) as result '
            'from %1$I.maintenance_tick() t'
        ),
        (
            'recovery', 'recovery_sweep', interval '5 seconds',
            'select false as again, null::text as error, false as systemic, to_jsonb(s) as result '
            'from %1$I.recovery_sweep(p_leader_epoch => %2$L) s'
        ),
        (
            'counters', 'counter_reconcile', interval '2 minutes',
            'select false as again, '
            'string_agg(c.key || '' kept: see incident'', ''; '') filter (where c.outcome = ''kept'') as error, '
            'coalesce(bool_and(c.outcome = ''kept''), false) as systemic, '
            'jsonb_build_object(''counters'', count(*), ''skew'', coalesce(sum(c.skew), 0)) as result '
            'from %1$I.counter_reconcile() c'
        ),
        (
            'cleanup', 'cleanup_sweep', interval '5 minutes',
            'select c.has_more as again, nullif(c.errors::text, ''{}'') as error, false as systemic, '
            'to_jsonb(c) as result '
            'from %1$I.cleanup_sweep() c'
        )
    ) as j (job, routine, every, statement)
    left join lateral (
        select * from maintenance_run n where n.job = j.job order by n.entry desc limit 1
    ) r on true
    where to_regproc(format('%I.%I', current_schema, j.routine)) is not null
    order by 5, 3;
end;
$$;

comment on function {{ schema }}.maintenance_due(bigint) is
'Every job of the upkeep, what is due first on top: what to call, how often, when next, and how it went. Whoever runs one: maintenance_start, the statement in a transaction of its own, maintenance_finish. With the epoch of a leader, statements that write for it are refused once another leads.';
