create or replace function {{ schema }}.outbox_settle(
    p_lease_id uuid, p_done bigint[], p_failed jsonb default '[]'
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
    return _lease_settle(p_lease_id, coalesce(p_done, '{}'), p_failed);
end;
$$;

comment on function {{ schema }}.outbox_settle(uuid, bigint[], jsonb) is
'Settle events of a lease: p_done were published; p_failed is a JSON array of {"message_id", "error", "retryable", "retry_in", "reason"} and only these are charged; a reason (not_retryable, malformed, unknown_handler) is final, and a retry_in out of range is the nearest one in it. What is in neither stays leased; ids that are not in the lease, or settled before, change nothing and are not counted. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad p_failed.';
