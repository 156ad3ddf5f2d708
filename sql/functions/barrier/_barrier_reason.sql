create or replace function {{ schema }}._barrier_reason(p_barrier {{ schema }}.barrier) returns text
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_outstanding integer;
begin
    select coalesce(sum(bit_count(s.pending::bit(64))), 0) into v_outstanding
    from barrier_slot s where s.epoch = p_barrier.epoch;
    return case
        when v_outstanding > 0
            then format('incomplete: %s of %s members outstanding', v_outstanding, p_barrier.member_count)
        when not p_barrier.is_sealed
            then format('never sealed: all of its %s members had arrived', p_barrier.member_count)
    end;
end;
$$;

comment on function {{ schema }}._barrier_reason({{ schema }}.barrier) is
'Why an open barrier has not fired: members are outstanding, or it was never sealed. Null when neither holds.';
