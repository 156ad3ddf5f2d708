create or replace function {{ schema }}.barrier_resolve(p_name text, p_epoch bigint, p_outcome text) returns text
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/* An answer is about one epoch: one that comes after the barrier was opened anew is told stale and changes nothing. */
declare
    v_now timestamptz;
    v_barrier barrier;
    v_event_id uuid;
    v_error text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_resolve');
    end if;
    if p_outcome is null or p_outcome not in ('failed', 'completed', 'keep', 'fire') then
        perform _bad_argument('p_outcome', p_outcome, 'The outcomes are failed, completed, keep and fire.');
    end if;
    perform from barrier_epoch e where e.epoch = p_epoch and e.name = p_name for update;
    select * into v_barrier from barrier b where b.name = p_name and b.epoch = p_epoch for update;
    if not found then
        return _barrier_standing(p_name, p_epoch);
    end if;

    if p_outcome = 'keep' and v_barrier.state = 'open' then
        v_now := clock_now();
        update barrier
        set kept_at = v_now, look_at = v_now + stall_after, expires_at = greatest(expires_at, v_now + stall_after),
            look_count = 0, resent_at = null
        where name = p_name;
        return 'kept';
    elsif p_outcome = 'completed' then
        if v_barrier.state = 'open' then
            perform _barrier_close(p_name, p_epoch, 'resolved', 'completed', 'said to be completed elsewhere');
            return 'completed';
        end if;
        return case v_barrier.state when 'resolved' then 'completed' else 'closed' end;
    elsif p_outcome = 'failed' then
        if v_barrier.state = 'open' then
            perform _barrier_close(p_name, p_epoch, 'aborted', 'expired', _barrier_reason(v_barrier));
            return 'failed';
        end if;
        return case when v_barrier.state = 'aborted' and v_barrier.outcome = 'expired' then 'failed' else 'closed' end;
    elsif p_outcome = 'fire' and v_barrier.state in ('fired', 'fire_failed') then
        if v_barrier.state = 'fired' then
            return 'fired';
        end if;
        select _barrier_event_id(i.event_prefix, p_epoch, v_barrier.opened_at, 'callback') into v_event_id
        from installation i;
        -- Locked first, and asked in a statement of its own: who requeues it at this moment has committed by then.
        perform from dead_letter d
        where d.channel = v_barrier.callback_queue and d.event_id = v_event_id
        order by d.dead_letter_id
        for update;
        if exists (
            select from dead_letter d
            where d.channel = v_barrier.callback_queue and d.event_id = v_event_id
                and (d.requeued_count > 0 or d.state in ('requeued', 'resolved'))
        ) then
            update barrier set state = 'fired', reason = null where name = p_name;
            return 'fired'; -- somebody has requeued the dead letter: it has been on its way, whatever became of it
        end if;
        update dead_letter d
        set state = 'discarded', resolved_at = clock_now(),
            notes = d.notes || jsonb_build_object(
                'at', clock_now(), 'by', session_user, 'did', 'discard', 'note', 'its barrier fires it again'
            )
        where d.channel = v_barrier.callback_queue and d.state = 'dead'
            and d.reason = 'not_retryable' and d.event_id = v_event_id;
        v_barrier.reason := null;
        v_error := _barrier_tell(v_barrier, v_barrier.callback_queue);
        update barrier
        set state = case when v_error is null then 'fired' else 'fire_failed' end, reason = v_error
        where name = p_name;
        return case when v_error is null then 'fired' else 'fire_failed' end;
    end if;
    return _barrier_standing(p_name, p_epoch);
end;
$$;

comment on function {{ schema }}.barrier_resolve(text, bigint, text) is
'Answer what is to become of a stranded barrier. p_outcome failed: it is aborted as expired, and its failure queue hears what was outstanding; completed: it is closed without a callback, as its work was finished elsewhere; keep: it lives, and is looked at again after its stall_after; fire: the callback that became a dead letter enters its queue once more. Returns failed, completed, kept or fired, also to a repeat; fire_failed when it failed again; or, having changed nothing, closed, open, stale or unknown. Errors: TG010 bad p_outcome, TG030 not READ COMMITTED.';
