create or replace function {{ schema }}.run_finish(
    p_run_id text, p_state text, p_reason text default null, out outcome text, out state text
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
#variable_conflict use_column
/* Compare and set, under the lock of the row: completed and stopped are final, an error may still become either. */
declare
    v_run run;
begin
    if p_state is null or p_state not in ('completed', 'error', 'stopped') then
        perform _bad_argument('p_state', p_state, 'A run ends as completed, error or stopped.');
    end if;
    if p_state = 'stopped' then
        v_run.state := (select s.former_state from _run_stop(p_run_id, p_reason, 'run_finish') s);
    else
        v_run := _run_lock(p_run_id, 'run_finish');
        if v_run.run_id is null then
            outcome := 'unknown';
            return;
        end if;
    end if;
    if v_run.state = p_state then
        outcome := 'unchanged';
    elsif v_run.state in ('completed', 'stopped') then
        outcome := 'refused';
        state := v_run.state;
        return;
    else
        outcome := 'changed';
        update run r set state = p_state, reason = p_reason, finished_at = clock_now()
        where r.run_id = p_run_id and p_state <> 'stopped';
        if p_state = 'error' then
            perform _run_cascade(p_run_id, 'error');
        end if;
    end if;
    state := p_state;
end;
$$;

comment on function {{ schema }}.run_finish(text, text, text) is
'End a run: completed, error (its open children fail with it), or stopped (as run_cancel). outcome: changed; unchanged, it was so before; refused, as a run that completed or was stopped stays so; unknown, and nothing done, for completed or error of a run never opened. state is what it is now: an error may still become completed. Errors: TG010 bad argument, TG030 not READ COMMITTED.';
