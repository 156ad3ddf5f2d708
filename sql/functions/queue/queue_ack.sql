create or replace function {{ schema }}.queue_ack(
    p_lease_id uuid, p_message_ids bigint[] default null, p_result jsonb default null
) returns {{ schema }}.settled
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * The lease row is the fencing token: whoever still finds it owns its messages. A plain lease settled whole, the
 * ordinary case, ends as one statement; the row's lock decides who wins against a tick or another settlement.
 */
declare
    v_answer settled := row(0, 0, 0, false);
    v_channel_id integer;
begin
    if p_message_ids is null then
        delete from lease where lease_id = p_lease_id and is_plain
        returning channel_id, message_count into v_channel_id, v_answer.acked;
        if found then
            insert into tally (amount, channel_id, outcome) values (v_answer.acked, v_channel_id, 'acked');
            return v_answer;
        end if;
        v_answer.acked := 0;
    end if;
    return _lease_settle(p_lease_id, p_message_ids, '[]', p_result => p_result);
end;
$$;

comment on function {{ schema }}.queue_ack(uuid, bigint[], jsonb) is
'Settle messages of a lease as done; null settles all that is left. Where they belong to members of a barrier, these arrive with p_result in the same transaction; elsewhere p_result is kept nowhere. Inside a business transaction its effects and the ack commit together. Answers lost = true, and does nothing, when the lease is gone. Errors: TG030 the lease is not to be seen in an older snapshot, or holds messages with a group key.';
