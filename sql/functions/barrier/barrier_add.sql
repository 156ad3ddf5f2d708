create or replace function {{ schema }}.barrier_add(
    p_name text, p_epoch bigint, p_count integer, p_key text default null
) returns integer
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_barrier barrier;
    v_first integer;
    v_standing text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_add');
    end if;
    if p_count is null or p_count not between 1 and 1000000 then
        perform _bad_argument('p_count', p_count::text, 'Add 1 to 1000000 members at a time.');
    elsif octet_length(p_key) > 512 then
        perform _bad_argument('p_key', left(p_key, 100), 'A key has at most 512 bytes; hash a longer one.');
    end if;
    perform from barrier_epoch e where e.epoch = p_epoch and e.name = p_name for update;
    select * into v_barrier from barrier b where b.name = p_name and b.epoch = p_epoch for update;
    if p_key is not null and v_barrier.epoch is not null then
        select r.first_member into v_first from barrier_range r where r.epoch = p_epoch and r.key = p_key;
        if found then
            return v_first;
        end if;
    end if;
    if v_barrier.state is distinct from 'open' then
        v_standing := _barrier_standing(p_name, p_epoch);
        if v_standing = 'unknown' then
            perform _no_such_barrier(p_name, p_epoch);
        end if;
        return null;
    elsif v_barrier.is_sealed then
        raise exception using
            errcode = 'TG081',
            message = format('barrier %L is sealed: it takes no more members', p_name),
            hint = 'Open it with p_sealed => false, add, and then call barrier_seal.';
    elsif v_barrier.member_count + p_count > 100000000 then
        perform _bad_argument('p_count', p_count::text, 'A barrier has at most 100000000 members.');
    end if;
    v_first := v_barrier.member_count + 1;
    update barrier_epoch
    set open_slots = open_slots + _barrier_grow(p_epoch, v_first, p_count, p_key)
    where epoch = p_epoch;
    update barrier set member_count = member_count + p_count where name = p_name and epoch = p_epoch;
    return v_first;
end;
$$;

comment on function {{ schema }}.barrier_add(text, bigint, integer, text) is
'Add members to a barrier that is not sealed yet. Returns the number of the first new one; null, having changed nothing, when the barrier is closed or was opened anew. p_key makes the call repeatable: the same one again answers the first number. Errors: TG010 bad argument, TG030 not READ COMMITTED, TG080 no such barrier or epoch, TG081 it is sealed.';
