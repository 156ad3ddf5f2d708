create or replace function {{ schema }}._barrier_ask(p_barrier {{ schema }}.barrier, p_expired_at timestamptz)
returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * One question for each time it expires, under an event_id of its own; while the one before has not been answered and
 * is still in the queue, no other joins it.
 */
declare
    v_failed integer;
    v_outstanding integer;
begin
    select coalesce(sum(bit_count(s.failed::bit(64))), 0), coalesce(sum(bit_count(s.pending::bit(64))), 0)
    into v_failed, v_outstanding
    from barrier_slot s where s.epoch = p_barrier.epoch;
    perform queue_send(
        p_barrier.expire_queue,
        jsonb_build_object(
            'barrier', p_barrier.name, 'epoch', p_barrier.epoch, 'outcome', 'expired',
            'reason', _barrier_reason(p_barrier), 'members', p_barrier.member_count,
            'arrived', p_barrier.member_count - v_failed - v_outstanding, 'failed', v_failed,
            'outstanding', v_outstanding, 'run_id', p_barrier.run_id, 'payload', p_barrier.failure_payload
        ),
        p_job_key => 'expired ' || p_barrier.epoch,
        p_key_mode => 'dedupe',
        p_event_id => _barrier_event_id(
            i.event_prefix, p_barrier.epoch, p_barrier.opened_at, 'expired ' || extract(epoch from p_expired_at)
        ),
        p_run_id => p_barrier.run_id,
        p_tenant => p_barrier.tenant
    )
    from installation i;
end;
$$;

comment on function {{ schema }}._barrier_ask({{ schema }}.barrier, timestamptz) is
'Ask, through its expire queue, what is to become of a stranded barrier. Errors: those of queue_send.';
