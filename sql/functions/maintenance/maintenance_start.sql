create or replace function {{ schema }}.maintenance_start(p_job text) returns boolean
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Its next time is written before it runs, so that one that takes its maintainer down is not run by all the others in
 * turn. Correctness does not rest on this: two runs at once share the work by row locks.
 */
declare
    v_now timestamptz;
    v_job maintenance_job;
    v_last maintenance_run;
begin
    select * into v_job from maintenance_due() d where d.job = p_job;
    if not found then
        perform _bad_argument(
            'p_job', p_job,
            'Jobs are ' || (select string_agg(d.job, ', ' order by d.job) from maintenance_due() d) || '.'
        );
    end if;
    if v_job.due_in is null
        or not pg_try_advisory_xact_lock(hashtextextended(p_job, 'maintenance_run'::regclass::oid::bigint))
    then
        return false;
    end if;
    -- Under the lock, in a new snapshot.
    select * into v_last from maintenance_run r where r.job = p_job order by r.entry desc limit 1;
    v_now := clock_now();
    -- A clock set back must not silence it: no job is due later than its longest backoff from now.
    if v_last.due_at > v_now and v_last.due_at <= v_now + v_job.every * 33 then
        return false;
    end if;
    insert into maintenance_run (job, due_at, started_at, succeeded_at, failed_at, failure_count, last_error)
    values (
        p_job, v_now + v_job.every, v_now, v_last.succeeded_at, v_last.failed_at, coalesce(v_last.failure_count, 0),
        v_last.last_error
    );
    delete from maintenance_run where ctid = any(array(
        select r.ctid from maintenance_run r where r.job = p_job and r.entry = v_last.entry for update skip locked
    ));
    return true;
end;
$$;

comment on function {{ schema }}.maintenance_start(text) is
'Take a job of the upkeep that is due, until its next time. Commit before running it. False: it is not due, or paused, or somebody else has just taken it. Errors: TG010 no such job.';
