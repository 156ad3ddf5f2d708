create or replace function {{ schema }}.barrier_arrive(
    p_name text, p_epoch bigint, p_member integer, p_result jsonb default null
) returns text
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_arrive');
    end if;
    return _barrier_settle(p_name, p_epoch, p_member, p_result, null);
end;
$$;

comment on function {{ schema }}.barrier_arrive(text, bigint, integer, jsonb) is
'Say that a member is done, with its result, in the caller''s transaction; keep that short, as others of its slot wait for it. Returns arrived, or fired for the last one: the callback then enters its queue with this commit (fire_failed: it became a dead letter). Or, having changed nothing: duplicate (it has arrived or failed before), stale (the barrier was opened anew), closed (also when its run was stopped), or unknown (no such barrier, epoch or member). Errors: TG030 not READ COMMITTED.';
