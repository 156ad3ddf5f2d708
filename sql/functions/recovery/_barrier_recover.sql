create or replace function {{ schema }}._barrier_recover(
    p_name text, p_epoch bigint, p_leader_epoch bigint, out did text, out members integer
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set lock_timeout = '100ms'
as $$
/*
 * Recover, then close: whatever fails on the way undoes all of it, and the row stays.
 *
 * Locks in the order of design section 5: the run, the epoch, the barrier; slots are only read. Children of the run are
 * locked last: whoever holds one of those wants no barrier of a run above it, so nobody waits in a circle. What others
 * hold is left for the next pass. From the lock of the epoch on nobody fires, seals or aborts it; under that of the
 * barrier, by which its epoch is compared, nobody opens it anew, and a look that another recovery has had is over.
 *
 * Each write is a statement that checks the leader's epoch, if there is one.
 */
declare
    v_now timestamptz;
    v_barrier barrier;
    v_run run;
    v_queue text;
    v_progress_at timestamptz;
    v_outstanding integer;
    v_answer text;
    v_is_held boolean := false;
begin
    did := 'kept';
    select * into v_barrier from barrier b where b.name = p_name and b.epoch = p_epoch;
    if v_barrier.run_id is not null then
        select * into v_run from run r where r.run_id = v_barrier.run_id for update skip locked;
        v_is_held := not found and exists (select from run r where r.run_id = v_barrier.run_id);
    end if;
    if not v_is_held then
        perform from barrier_epoch e where e.epoch = p_epoch for update skip locked;
        v_is_held := not found;
    end if;
    if v_is_held then
        -- In somebody's hands: others are not to wait behind it.
        update barrier set look_at = clock_now() + interval '10 seconds'
        where ctid = any(array(
            select b.ctid from barrier b where b.name = p_name and b.epoch = p_epoch for update skip locked
        )) and _leader_check('maintain', p_leader_epoch);
        return;
    end if;
    select * into v_barrier from barrier b where b.name = p_name and b.epoch = p_epoch for update skip locked;
    v_now := clock_now();
    if v_barrier.state in ('open', 'fire_failed') is not true or v_barrier.look_at > v_now then
        return;
    end if;
    if v_run.state = 'stopped' then
        -- Its cancel was in a hurry, or had its failure before.
        if v_barrier.state = 'open' then
            perform _barrier_close(p_name, p_epoch, 'aborted', 'aborted', 'its run was stopped')
            where _leader_check('maintain', p_leader_epoch);
        else
            update barrier set state = 'aborted', reason = 'its run was stopped'
            where name = p_name and _leader_check('maintain', p_leader_epoch);
        end if;
        did := 'reclaimed';
        return;
    end if;
    select max(s.arrived_at), coalesce(sum(bit_count(s.pending::bit(64))), 0) into v_progress_at, v_outstanding
    from barrier_slot s where s.epoch = p_epoch;
    v_progress_at := greatest(v_barrier.opened_at, v_barrier.kept_at, v_progress_at);

    v_queue := case
        when v_barrier.state = 'fire_failed' or (v_outstanding = 0 and v_barrier.is_sealed)
            then v_barrier.callback_queue
        else v_barrier.failure_queue
    end;
    if v_barrier.tenant is null
        and exists (select from channel c where c.kind = 'queue' and c.name = v_queue and c.tenant_required)
    then
        perform _bad_argument('p_tenant', null, format('Queue %s requires a tenant.', v_queue));
    end if;

    if v_barrier.state = 'fire_failed' then
        if not exists (select from channel c where c.kind = 'queue' and c.name = v_queue) then
            perform _no_such_channel('queue', v_queue);
        end if;
        v_answer := (select barrier_resolve(p_name, p_epoch, 'fire') where _leader_check('maintain', p_leader_epoch));
    elsif v_outstanding = 0 and v_barrier.is_sealed then
        -- Full and silent: by the proof in _barrier_settle this cannot be, and if it ever is, it ends here.
        v_answer := (
            select _barrier_close(p_name, p_epoch, 'fired', null) where _leader_check('maintain', p_leader_epoch)
        );
    end if;
    if v_answer = 'fired' then
        did := 'refired';
        return;
    elsif v_answer is not null then
        raise exception using
            message = (
                select coalesce(b.reason, 'its callback could not be sent') from barrier b where b.name = p_name
            );
    end if;

    if v_now < v_barrier.expires_at and v_now < v_progress_at + v_barrier.stall_after then
        update barrier set look_at = least(expires_at, v_progress_at + stall_after), look_count = 0
        where name = p_name and _leader_check('maintain', p_leader_epoch);
        return;
    elsif v_run.state = 'completed' then
        -- What has ended is not ended otherwise; nobody waits for this barrier any more.
        perform _barrier_close(p_name, p_epoch, 'resolved', 'completed', 'its run is completed')
        where _leader_check('maintain', p_leader_epoch);
        did := 'reclaimed';
        return;
    end if;

    if v_barrier.resent_at is null then
        members := (select _members_resend(v_barrier, 10000) where _leader_check('maintain', p_leader_epoch));
        if members > 0 then
            -- They get their time, once. Where there are more, the next look goes on.
            update barrier
            set look_at = case when members < 10000 then v_now + stall_after else v_now end,
                kept_at = case when members < 10000 then v_now end,
                resent_at = case when members < 10000 then v_now end,
                expires_at = case when members < 10000 then greatest(expires_at, v_now + stall_after)
                    else expires_at end,
                look_count = 0
            where name = p_name and _leader_check('maintain', p_leader_epoch);
            did := 'resent';
            return;
        end if;
    end if;

    if v_barrier.expire_queue is not null then
        perform _barrier_ask(v_barrier, v_barrier.look_at) where _leader_check('maintain', p_leader_epoch);
        update barrier
        set look_at = v_now + interval '1 minute' * power(2, least(look_count, 5)), look_count = look_count + 1
        where name = p_name and _leader_check('maintain', p_leader_epoch);
        did := 'asked';
        return;
    end if;

    if v_run.run_id is not null then
        perform run_finish(v_run.run_id, 'error', format('barrier %s: %s', p_name, _barrier_reason(v_barrier)))
        where _leader_check('maintain', p_leader_epoch);
    end if;
    perform _barrier_close(p_name, p_epoch, 'aborted', 'expired', _barrier_reason(v_barrier))
    where _leader_check('maintain', p_leader_epoch);
    did := 'failed';
end;
$$;

comment on function {{ schema }}._barrier_recover(text, bigint, bigint) is
'Look at a barrier that is due. did: kept (it is alive, somebody has it in hand, or it was opened anew), refired, resent (members says how many messages), asked, failed (its run too, where it has one), or reclaimed, as its run had ended. Errors: whatever went wrong, with nothing changed; TG090 the leader''s epoch is over.';
