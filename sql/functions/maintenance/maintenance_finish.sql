create or replace function {{ schema }}.maintenance_finish(
    p_job text, p_error text default null, p_again boolean default false, p_systemic boolean default true
) returns interval
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_now constant timestamptz := clock_now();
    v_job maintenance_job;
    v_due_at timestamptz;
begin
    select * into v_job from maintenance_due() d where d.job = p_job;
    if not found then
        perform _bad_argument(
            'p_job', p_job,
            'Jobs are ' || (select string_agg(d.job, ', ' order by d.job) from maintenance_due() d) || '.'
        );
    end if;
    if p_error is not null and p_systemic then
        v_due_at := v_now + v_job.every * power(2, least(v_job.failure_count + 1, 5));
    elsif p_again then
        v_due_at := v_now;
    else
        v_due_at := greatest(v_now, coalesce(v_job.started_at, v_now) + v_job.every);
    end if;
    perform _maintenance_note(p_job, p_error, v_due_at);
    return v_due_at - v_now;
end;
$$;

comment on function {{ schema }}.maintenance_finish(text, text, boolean, boolean) is
'Say how a job of the upkeep ended: an error, or null for success; p_again when there is more to do at once. After the n-th failure in a row it is due after its interval times 2^min(n, 5), but at its usual time where the error was of a part and the rest went on (p_systemic => false). Returns in how long it is due. Errors: TG010 no such job.';
