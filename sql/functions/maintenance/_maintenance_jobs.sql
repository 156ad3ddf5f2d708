create or replace function {{ schema }}._maintenance_jobs(
    out job text, out routine text, out every interval, out is_led boolean, out statement text
) returns setof record
language sql immutable parallel safe rows 10
begin atomic
select j.*
from (values
    (
        'tick', 'maintenance_tick', interval '1 second', false,
        'select t.has_more as again, t.first_error as error, t.ticked = 0 as systemic, to_jsonb(t) as result '
        'from %I.maintenance_tick(%s) t'
    ),
    (
        'recovery', 'recovery_sweep', interval '5 seconds', true,
        'select s.has_more as again, nullif(s.errors::text, ''{}'') as error, s.systemic, to_jsonb(s) as result '
        'from %I.recovery_sweep(%s) s'
    ),
    (
        'runs', 'run_sweep', interval '5 seconds', false,
        'select r.failed + r.passed + r.put_off >= 100 and r.failed + r.passed > 0 as again, r.first_error as error, '
        'r.failed + r.passed = 0 as systemic, to_jsonb(r) as result from %I.run_sweep(%s) r'
    ),
    (
        'counters', 'counter_reconcile', interval '2 minutes', false,
        'select false as again, '
        'string_agg(c.key || '' kept: see incident'', ''; '') filter (where c.outcome = ''kept'') as error, '
        'coalesce(bool_and(c.outcome = ''kept''), false) as systemic, '
        'jsonb_build_object(''counters'', count(*), ''skew'', coalesce(sum(c.skew), 0)) as result '
        'from %I.counter_reconcile(%s) c'
    ),
    (
        'cleanup', 'cleanup_sweep', interval '5 minutes', false,
        'select c.has_more as again, nullif(c.errors::text, ''{}'') as error, false as systemic, '
        'to_jsonb(c) as result from %I.cleanup_sweep(%s) c'
    ),
    (
        'metrics', 'metrics_snapshot', interval '1 minute', false,
        'select false as again, nullif(m.errors::text, ''{}'') as error, m.samples = 0 as systemic, '
        'to_jsonb(m) as result from %I.metrics_snapshot(%s) m'
    )
) as j (job, routine, every, is_led, statement);
end;

comment on function {{ schema }}._maintenance_jobs() is
'What an installation needs done, how often, and by what statement, with holes for schema and arguments. is_led: takes the epoch of a leader.';
