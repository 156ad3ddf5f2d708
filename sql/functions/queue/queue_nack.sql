create or replace function {{ schema }}.queue_nack(
    p_lease_id uuid,
    p_message_ids bigint[] default null,
    p_error text default null,
    p_retryable boolean default true,
    p_retry_in interval default null
) returns {{ schema }}.settled
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
    v_failed jsonb;
begin
    if p_retry_in not between '0' and '100 years' then
        perform _bad_argument('p_retry_in', p_retry_in::text, 'Give zero or a positive interval, at most 100 years.');
    end if;
    select jsonb_agg(jsonb_build_object(
        'message_id', i.message_id, 'error', p_error, 'retryable', coalesce(p_retryable, true), 'retry_in', p_retry_in
    )) into v_failed
    from (
        select u.message_id from unnest(p_message_ids) as u (message_id)
        union
        select m.message_id
        from lease l
        cross join lateral unnest(l.messages) m
        where l.lease_id = p_lease_id and p_message_ids is null
    ) i;
    return _lease_settle(p_lease_id, '{}', coalesce(v_failed, '[]'));
end;
$$;

comment on function {{ schema }}.queue_nack(uuid, bigint[], text, boolean, interval) is
'Settle messages of a lease as failed; null means all that is left. Each is charged: it comes back after p_retry_in, or the queue''s backoff when that is null, unless that was its last attempt or p_retryable is false: then it becomes a dead letter. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad argument, TG030 the lease is not to be seen in an older snapshot, or holds messages with a group key.';
