create or replace function {{ schema }}._barrier_grow(
    p_epoch bigint, p_first_member integer, p_count integer, p_key text default null
) returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Member m of a range of k slots, first member f, stands in slot f + (m - f) mod k, as bit (m - f) / k: neighbours,
 * who tend to arrive together, stand apart.
 */
declare
    v_slots constant integer := _slot_count(p_count);
begin
    insert into barrier_range (epoch, first_member, member_count, slot_count, key)
    values (p_epoch, p_first_member, p_count, v_slots, p_key);
    insert into barrier_slot (epoch, slot, pending, room)
    select p_epoch, p_first_member + n.slot, (1::bigint << n.members) - 1, repeat(' ', 6 * n.members)
    from (select s as slot, (p_count - s - 1) / v_slots + 1 as members from generate_series(0, v_slots - 1) s) n;
    return v_slots;
end;
$$;

comment on function {{ schema }}._barrier_grow(bigint, integer, integer, text) is
'Make the slots of further members. Returns how many slots, which the caller adds to those open.';
