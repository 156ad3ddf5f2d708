create or replace function {{ schema }}.queue_extend(p_lease_id uuid, p_lease interval default null)
returns {{ schema }}.extended
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The messages of the lease are not rewritten: what is large stands beside the row. Whoever holds the row's lock wins
 * against a tick that would take the lease back; one taken back is lost.
 */
declare
    v_channel channel;
    v_lease lease;
    v_answer extended := row(null, null, '{}', false);
begin
    if p_lease <= '0' then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.'
        );
    end if;
    select l.lease_id, l.channel_id, l.claimed_at, l.expires_at, l.run_ids
    into v_lease.lease_id, v_lease.channel_id, v_lease.claimed_at, v_lease.expires_at, v_lease.run_ids
    from lease l
    where l.lease_id = p_lease_id
    for update;
    if not found then
        if current_setting('transaction_isolation') <> 'read committed' then
            perform _require_read_committed('queue_extend');
        end if;
        return row(null, null, null, true)::extended;
    end if;
    select * into v_channel from channel c where c.channel_id = v_lease.channel_id;
    v_answer.deadline := v_lease.claimed_at + v_channel.max_runtime;
    update lease
    set expires_at = case
        when clock_now() < v_answer.deadline then least(
            greatest(clock_now() + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond'),
            v_answer.deadline
        )
        else v_lease.expires_at
    end
    where lease_id = p_lease_id
    returning expires_at into v_answer.expires_at;
    if v_lease.run_ids is not null or exists (select from cancel_request r where r.channel_id = v_lease.channel_id) then
        select _cancelled(l.channel_id, _lease_left(l)) into v_answer.cancelled
        from lease l where l.lease_id = p_lease_id;
    end if;
    return v_answer;
end;
$$;

comment on function {{ schema }}.queue_extend(uuid, interval) is
'Renew a lease: it now ends p_lease (the queue''s lease when null) from now, but never after its deadline, which is max_runtime after the claim. Answers with both, and with the messages of it that somebody cancelled, or whose run was; lost = true, and nothing done, when the lease is gone. Errors: TG010 bad argument, TG030 the lease is not to be seen in an older snapshot.';
