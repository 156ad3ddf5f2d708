create or replace function {{ schema }}.run_cancel(
    p_run_id text, p_reason text default null, out outcome text, out runs integer, out removed bigint
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_stop record;
begin
    select * into v_stop from _run_stop(p_run_id, p_reason, 'run_cancel');
    if v_stop.former_state = 'completed' then
        raise exception using
            errcode = 'TG091',
            message = format('run %L has completed, at %s', p_run_id, v_stop.former_at),
            hint = 'What it did is done. A run that is open, in error, or was never opened can be cancelled.';
    end if;
    outcome := 'cancelled';
    runs := v_stop.runs;
    removed := v_stop.removed;
end;
$$;

comment on function {{ schema }}.run_cancel(text, text) is
'Stop a run, and its children, for good: its events and messages that wait become discarded dead letters, nothing of it is delivered once this has committed, what is sent for it is answered cancelled, and workers that hold messages of it learn by queue_extend. By id, so also before it was opened. outcome is cancelled, also for a repeat, which removes what came in meanwhile; runs says how many were stopped now, removed how many messages. Errors: TG010 bad argument, TG030 not READ COMMITTED, TG091 the run has completed.';
