create or replace function {{ schema }}.barrier_seal(p_name text, p_epoch bigint) returns text
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_open integer;
    v_state text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_seal');
    end if;
    select e.open_slots into v_open from barrier_epoch e where e.epoch = p_epoch and e.name = p_name for update;
    update barrier set is_sealed = true
    where name = p_name and epoch = p_epoch and state = 'open' and not is_sealed;
    if not found then
        v_state := _barrier_standing(p_name, p_epoch);
        return case v_state when 'open' then 'duplicate' else v_state end;
    end if;
    if _quorum_is_missed(p_name, p_epoch) then
        return _barrier_close(
            p_name, p_epoch, 'aborted', 'quorum_missed', 'sealed with a quorum that is out of reach'
        );
    elsif v_open = 0 then
        return _barrier_close(p_name, p_epoch, 'fired', null);
    end if;
    return 'sealed';
end;
$$;

comment on function {{ schema }}.barrier_seal(text, bigint) is
'Say that no member will be added. Returns sealed; fired when all have arrived already, or none was added (fire_failed when the callback became a dead letter); aborted when its quorum is out of reach; or duplicate, closed, stale or unknown, having changed nothing. Errors: TG030 not READ COMMITTED.';
