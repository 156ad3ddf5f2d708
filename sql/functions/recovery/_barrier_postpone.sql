create or replace function {{ schema }}._barrier_postpone(p_name text, p_epoch bigint, p_leader_epoch bigint)
returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
begin
    update barrier
    set look_at = clock_now() + interval '1 minute' * power(2, least(look_count, 5)), look_count = look_count + 1
    where ctid = any(array(
        select b.ctid from barrier b where b.name = p_name and b.epoch = p_epoch for update skip locked
    )) and _leader_check('maintain', p_leader_epoch);
end;
$$;

comment on function {{ schema }}._barrier_postpone(text, bigint, bigint) is
'Look again, after a failure, in 1 minute, 2, 4, … 32; unless somebody has the barrier in hand. Errors: TG090 the leader''s epoch is over.';
