create or replace function {{ schema }}._maintenance_note(
    p_job text, p_error text, p_due_at timestamptz default null
) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/* Two at once count a failure once: nobody waits here for anybody. */
declare
    v_now constant timestamptz := clock_now();
    v_last maintenance_run;
begin
    select * into v_last from maintenance_run r where r.job = p_job order by r.entry desc limit 1;
    insert into maintenance_run (job, due_at, started_at, succeeded_at, failed_at, failure_count, last_error)
    values (
        p_job, coalesce(p_due_at, v_last.due_at), v_last.started_at,
        case when p_error is null then v_now else v_last.succeeded_at end,
        case when p_error is null then v_last.failed_at else v_now end,
        case when p_error is null then 0 else coalesce(v_last.failure_count, 0) + 1 end,
        case when p_error is null then v_last.last_error else _error_text(p_error) end
    );
    delete from maintenance_run where ctid = any(array(
        select r.ctid from maintenance_run r where r.job = p_job and r.entry = v_last.entry for update skip locked
    ));
end;
$$;

comment on function {{ schema }}._maintenance_note(text, text, timestamptz) is
'Note how a job of the upkeep, or a part of one, ended: an error, or null for success; and when it is due next, null for as before.';
