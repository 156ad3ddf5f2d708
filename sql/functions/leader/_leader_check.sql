create or replace function {{ schema }}._leader_check(p_name text, p_epoch bigint) returns boolean
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * For the statement that writes: volatile, so it looks in a snapshot of its own, which sees whoever has taken over by
 * then. It locks nothing: a leader that was stopped in the middle of a transaction must not keep the next one from
 * taking over. A write that had begun before the take-over is ordered before it, and rests on the locks of its rows, as
 * every write does; the next one is refused.
 */
declare
    v_leader leader;
begin
    if p_epoch is null then
        return true;
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('a write with an epoch');
    end if;
    select * into v_leader from leader l where l.name = p_name;
    if v_leader.epoch = p_epoch and v_leader.holder is not null then
        return true;
    end if;
    raise exception using
        errcode = 'TG090',
        message = format(
            'epoch %s of leader %L is over: %s', p_epoch, p_name,
            case
                when v_leader.name is null then 'there is no such leader'
                when v_leader.epoch = p_epoch then 'it was resigned'
                else format('now it is %s, of %s', v_leader.epoch, coalesce(v_leader.holder, 'nobody'))
            end
        ),
        hint = 'Stop, and call leader_acquire before writing again.';
end;
$$;

comment on function {{ schema }}._leader_check(text, bigint) is
'True while this epoch leads, or when none is given; called by the statement that writes. Errors: TG030 not READ COMMITTED, TG090 the epoch is over.';
