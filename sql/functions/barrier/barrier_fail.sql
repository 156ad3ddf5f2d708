create or replace function {{ schema }}.barrier_fail(
    p_name text, p_epoch bigint, p_member integer, p_error text default null
) returns text
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_fail');
    end if;
    return _barrier_settle(p_name, p_epoch, p_member, null, _error_text(p_error));
end;
$$;

comment on function {{ schema }}.barrier_fail(text, bigint, integer, text) is
'Say that a member has failed for good. Returns failed; aborted when that ended the barrier (policy abort, or a quorum out of reach); fired (or fire_failed) when it was the last one of a barrier that takes failures; or, having changed nothing, duplicate, stale, closed or unknown, as barrier_arrive. Errors: TG030 not READ COMMITTED.';
