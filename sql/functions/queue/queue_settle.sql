create or replace function {{ schema }}.queue_settle(
    p_lease_id uuid, p_done bigint[], p_failed jsonb default '[]', p_results jsonb default null
) returns {{ schema }}.settled
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
    if p_failed is distinct from '[]' then
        perform _failed_check(p_failed);
    end if;
    if jsonb_typeof(p_results) <> 'object' then
        perform _bad_argument(
            'p_results', left(p_results::text, 200),
            'Give a JSON object of results by message_id: {"3": {"words": 100}}'
        );
    end if;
    return _lease_settle(p_lease_id, coalesce(p_done, '{}'), p_failed, p_results => p_results);
end;
$$;

comment on function {{ schema }}.queue_settle(uuid, bigint[], jsonb, jsonb) is
'Settle messages of a lease one by one: p_done succeeded; p_failed is a JSON array of {"message_id", "error", "retryable", "retry_in", "reason"} and only these are charged; a reason (not_retryable, malformed, unknown_handler) is final, and a retry_in out of range is the nearest one in it. p_results is a JSON object of results by message_id: a message of p_done that belongs to a member of a barrier is its arrival with that one; elsewhere they are kept nowhere. What is in neither p_done nor p_failed stays leased; ids that are not in the lease, or settled before, change nothing and are not counted. Answers lost = true, and does nothing, when the lease is gone. p_done null names none. Errors: TG010 bad p_failed or p_results, 22P02 or 22007 a value in it of the wrong type, TG030 the lease is not to be seen in an older snapshot, or holds messages with a group key.';
