create or replace function {{ schema }}.barrier_abort(p_name text, p_epoch bigint, p_reason text default null)
returns text
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_abort');
    end if;
    perform from barrier_epoch e where e.epoch = p_epoch and e.name = p_name for update;
    return coalesce(
        _barrier_close(p_name, p_epoch, 'aborted', 'aborted', coalesce(left(p_reason, 1000), 'aborted')),
        _barrier_standing(p_name, p_epoch)
    );
end;
$$;

comment on function {{ schema }}.barrier_abort(text, bigint, text) is
'End an open barrier: it will not fire, later arrivals are told closed, and its failure queue hears the reason. Returns aborted to the one that did it; closed, stale or unknown to all others, having changed nothing. Errors: TG030 not READ COMMITTED.';
