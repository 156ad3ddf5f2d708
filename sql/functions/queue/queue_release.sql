create or replace function {{ schema }}.queue_release(
    p_lease_id uuid, p_message_ids bigint[] default null, p_retry_in interval default '0'
) returns {{ schema }}.settled
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    if p_retry_in is null or p_retry_in not between '0' and '100 years' then
        perform _bad_argument('p_retry_in', p_retry_in::text, 'Give zero or a positive interval, at most 100 years.');
    end if;
    return _lease_settle(p_lease_id, '{}', '[]', p_message_ids, p_retry_in);
end;
$$;

comment on function {{ schema }}.queue_release(uuid, bigint[], interval) is
'Give messages of a lease back uncharged, for a shutdown; null gives back all that is left. They count as retried in the answer. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad argument, TG030 the lease is not to be seen in an older snapshot.';
