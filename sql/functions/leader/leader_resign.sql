create or replace function {{ schema }}.leader_resign(p_name text, p_epoch bigint) returns boolean
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/* The row stays: the next epoch counts on from it. */
begin
    update leader l
    set holder = null, expires_at = least(l.expires_at, clock_now())
    where l.name = p_name and l.epoch = p_epoch;
    return found;
end;
$$;

comment on function {{ schema }}.leader_resign(text, bigint) is
'Stop leading, so that the next one need not wait for the lease. true also for a repeat; false, and nothing done, when this epoch is over.';
