{% from "macros/run.sql" import is_stopped %}
create or replace function {{ schema }}._barrier_settle(
    p_name text, p_epoch bigint, p_member integer, p_result jsonb, p_error text
) returns text
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * Locks, here and wherever a barrier is touched: slots by (epoch, slot), then the row of the epoch, then the barrier,
 * then what enters its queue. Each is taken by a statement of its own, so that the next one reads in a snapshot that
 * was taken after the wait and sees what the former holder committed.
 *
 * Why a barrier cannot be full and silent: a member counts as arrived when its bit is cleared. Under the lock of the
 * slot one arrival sees the slot empty, and that one takes the slot off open_slots in the same transaction. Sealing
 * locks the same row. So those who empty a slot and the one who seals form a line, and each sees what all before it
 * have done. The last of them finds open_slots = 0 and the barrier sealed, and closes it before it commits. If its
 * transaction does not commit, then neither do its bit and its share of open_slots, or its seal: the last one is still
 * to come. Who comes after it finds the state changed, or his bit cleared.
 *
 * Results are aggregated by that last one after it has the row of the epoch: by then every other arrival has committed.
 */
declare
    v_is_failed constant boolean := p_error is not null;
    v_range record;
    v_bit bigint;
    v_pending bigint;
    v_open integer;
    v_state text;
begin
    select b.policy, b.quorum, b.run_id, r.first_member, r.member_count, r.slot_count into v_range
    from barrier b
    cross join lateral (
        select * from barrier_range n
        where n.epoch = b.epoch and n.first_member <= p_member
        order by n.first_member desc
        limit 1
    ) r
    where b.name = p_name and b.epoch = p_epoch and b.state = 'open'
        and p_member < r.first_member + r.member_count;
    if not found then
        return _barrier_standing(p_name, p_epoch, coalesce(p_member, 0));
    end if;

    if v_range.run_id is not null and {{ is_stopped("v_range.run_id") }} then
        return 'closed'; -- it was opened while its run was cancelled, which did not see it
    end if;

    v_bit := 1::bigint << ((p_member - v_range.first_member) / v_range.slot_count);
    update barrier_slot
    set pending = pending & ~v_bit, failed = case when v_is_failed then failed | v_bit else failed end,
        arrived_at = clock_now(), room = null
    where epoch = p_epoch and slot = v_range.first_member + (p_member - v_range.first_member) % v_range.slot_count
        and pending & v_bit <> 0
    returning pending into v_pending;
    if not found then
        return _barrier_standing(p_name, p_epoch, p_member); -- duplicate, or the epoch was removed a moment ago
    end if;
    insert into barrier_result (epoch, member, at, result, error)
    values (p_epoch, p_member, clock_now(), p_result, p_error);

    if v_pending = 0 then
        update barrier_epoch set open_slots = open_slots - 1, room = null where epoch = p_epoch
        returning open_slots into v_open;
    elsif v_is_failed and v_range.policy <> 'collect' then
        perform from barrier_epoch e where e.epoch = p_epoch for update;
    else
        return case when v_is_failed then 'failed' else 'arrived' end;
    end if;

    if v_is_failed and v_range.policy = 'abort' then
        v_state := _barrier_close(
            p_name, p_epoch, 'aborted', 'aborted', format('member %s failed: %s', p_member, p_error)
        );
    elsif v_is_failed and v_range.policy = 'quorum' and _quorum_is_missed(p_name, p_epoch) then
        v_state := _barrier_close(
            p_name, p_epoch, 'aborted', 'quorum_missed',
            format('the quorum of %s is out of reach: member %s failed: %s', v_range.quorum, p_member, p_error)
        );
    elsif v_open = 0 then
        v_state := _barrier_close(p_name, p_epoch, 'fired', null);
    end if;
    if v_state is not null then
        return v_state;
    end if;
    -- Not the last one, or not sealed yet; or the barrier was closed or opened anew after this call had looked at it.
    select
        case
            when b.epoch <> p_epoch then 'stale'
            when b.state <> 'open' then 'closed'
            when v_is_failed then 'failed'
            else 'arrived'
        end
    into v_state
    from barrier b where b.name = p_name;
    return coalesce(v_state, 'unknown');
end;
$$;

comment on function {{ schema }}._barrier_settle(text, bigint, integer, jsonb, text) is
'Let a member arrive or, with an error, fail, and close the barrier if that was what it waited for. Returns arrived or failed, or else fired, fire_failed or aborted for the one that closed it, or why nothing changed: duplicate, stale, closed, unknown.';
