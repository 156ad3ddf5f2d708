create or replace function {{ schema }}._barrier_close(
    p_name text, p_epoch bigint, p_state text, p_outcome text, p_reason text default null
) returns text
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The one way from open to any other state, in one update under the lock of the epoch, which the caller holds: whoever
 * comes second finds the state changed. An epoch that is not the barrier's any more is left alone, and so is one that
 * is to be fired before it was sealed.
 */
declare
    v_barrier barrier;
    v_queue text;
    v_error text;
begin
    update barrier
    set state = p_state, reason = p_reason, closed_at = clock_now(),
        outcome = coalesce(p_outcome, case
            when exists (select from barrier_slot s where s.epoch = p_epoch and s.failed <> 0) then 'partial'
            else 'completed'
        end)
    where name = p_name and epoch = p_epoch and state = 'open' and (is_sealed or p_state <> 'fired')
    returning * into v_barrier;
    if not found then
        return null;
    end if;
    v_queue := case p_state when 'fired' then v_barrier.callback_queue when 'aborted' then v_barrier.failure_queue end;
    if v_queue is null then
        return p_state;
    end if;
    v_error := _barrier_tell(v_barrier, v_queue);
    if v_error is null then
        return p_state;
    end if;
    perform _incident_note('_barrier_close', null, substr(v_error, 2, 5), v_error);
    update barrier
    set state = case p_state when 'fired' then 'fire_failed' else p_state end,
        reason = concat_ws('; ', p_reason, v_error),
        look_at = clock_now() -- recovery fires a callback again; a failure message is told once
    where name = p_name and epoch = p_epoch;
    return case p_state when 'fired' then 'fire_failed' else p_state end;
end;
$$;

comment on function {{ schema }}._barrier_close(text, bigint, text, text, text) is
'Close a barrier and let its callback or failure message into its queue. Returns the state it is in then, fire_failed when its callback became a dead letter; null, having changed nothing, when it is not open, not to be fired yet, or was opened anew.';
