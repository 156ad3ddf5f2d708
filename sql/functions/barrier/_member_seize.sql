{% from "macros/barrier.sql" import is_awaited %}
create or replace function {{ schema }}._member_seize(p_name text, p_epoch bigint, p_member integer) returns boolean
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * For who ends the messages of members and waits for nobody: what it locks here, it needs when they end. The barrier
 * too: who opens it anew holds that row only, and to close it would be to wait for him.
 */
declare
    v_slot integer;
begin
    if not {{ is_awaited("p_name", "p_epoch") }} then
        return true;
    end if;
    select r.first_member + (p_member - r.first_member) % r.slot_count into v_slot
    from barrier_range r
    where r.epoch = p_epoch and r.first_member <= p_member
    order by r.first_member desc
    limit 1;
    perform from barrier_slot s where s.epoch = p_epoch and s.slot = v_slot for update skip locked;
    if not found and exists (select from barrier_slot s where s.epoch = p_epoch and s.slot = v_slot) then
        return false;
    end if;
    perform
    from barrier_epoch e
    inner join barrier b on b.name = e.name
    where e.epoch = p_epoch
    for update skip locked;
    return found or not exists (select from barrier_epoch e where e.epoch = p_epoch);
end;
$$;

comment on function {{ schema }}._member_seize(text, bigint, integer) is
'Lock the slot and the epoch of a member, and its barrier, if nobody else has them; true also where there is nothing to lock, as the barrier is closed or its run was stopped.';
