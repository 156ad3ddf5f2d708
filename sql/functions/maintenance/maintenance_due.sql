create or replace function {{ schema }}.maintenance_due(
    p_leader_epoch bigint default null
) returns setof {{ schema }}.maintenance_job
language plpgsql volatile rows 10
security definer
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Statements differ in what they report: each is written so that it answers again, error, systemic, result. A job
 * without its function is left out.
 */
declare
    v_now constant timestamptz := clock_now();
begin
    return query
    select
        j.job,
        format(j.statement, current_schema, concat_ws(
            ', ',
            case when j.is_led then format('p_leader_epoch => %L', p_leader_epoch) end,
            (
                select string_agg(format('%I => %L', a.key, a.value), ', ' order by a.key)
                from jsonb_each_text(s.arguments) a
            )
        )),
        coalesce(s.every, j.every),
        j.is_led,
        case when s.is_paused then null else coalesce(r.due_at, v_now) - v_now end,
        case when s.is_paused then null else coalesce(r.due_at, v_now) end,
        r.started_at,
        r.succeeded_at,
        coalesce(r.failure_count, 0),
        r.last_error
    from _maintenance_jobs() j
    left join maintenance_setting s on s.job = j.job
    left join lateral (
        select * from maintenance_run n where n.job = j.job order by n.entry desc limit 1
    ) r on true
    where to_regproc(format('%I.%I', current_schema, j.routine)) is not null
    order by 6, 3;
end;
$$;

comment on function {{ schema }}.maintenance_due(bigint) is
'Every job of the upkeep, what is due first on top: what to call, how often, when next, and how it went; paused ones last. Whoever runs one: maintenance_start, the statement in a transaction of its own, maintenance_finish. With the epoch of a leader, statements that write for it are refused once another leads.';
