{% from "macros/group.sql" import next_of_group %}
{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._message_end(p_channel_id integer, p_messages {{ schema }}.message[])
returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * For messages that have come to their end, by success, death or cancel: the follow-up of a job key enters, and the
 * turn of a group goes to the next one in blocked. Follow-ups first: one may be that next one.
 *
 * The rows of keys and turns are locked in order, and what stands behind them is looked at in a later statement, so in
 * a snapshot that sees whatever came in before the lock. An older snapshot would not, and is refused. Who ended while
 * he waited in blocked locks no turn: whoever holds that one may be waiting for his row.
 * Rows are reached one by one and then by their ctid, so that no plan, whenever it was made, reads the whole table.
 */
declare
    v_keys tid[];
    v_follow_ups message[];
    v_turns tid[];
    v_groups text[];
    v_numbers bigint[];
    v_marks bigint[];
    v_nexts tid[];
    v_positions bigint[];
    v_holders bigint[];
    v_is_gone boolean;
begin
    select array_agg(k.row_id) into v_keys
    from (
        select j.row_id
        from (
            select distinct m.job_key collate "C" as job_key, m.message_id from unnest(p_messages) m
            where m.job_key is not null
            order by 1
        ) e
        cross join lateral (
            select n.ctid as row_id from job_key n
            where n.channel_id = p_channel_id and n.key = e.job_key and n.message_id = e.message_id
            limit 1
            for update
        ) j
    ) k;
    if v_keys is not null then
        select array_agg(j.follow_up order by (j.follow_up).message_id) into v_follow_ups
        from job_key j
        where j.ctid = any(v_keys) and j.follow_up is distinct from null
            and coalesce(j.follow_up_due_at <= clock_now(), true);
        insert into scheduled (due_at, channel_id, {{ message_names() }})
        select
            greatest(j.follow_up_due_at, clock_now() + interval '1 microsecond'), p_channel_id,
            {{ message_names("(j.follow_up)") }}
        from job_key j
        where j.ctid = any(v_keys) and j.follow_up is distinct from null
            and j.follow_up_due_at > clock_now();
        if found then
            -- A poll that knows the queue to be idle until a later deadline looks again.
            perform nextval('position_seq');
        end if;
        delete from job_key j
        where j.ctid = any(v_keys) and j.follow_up is not distinct from null;
        update job_key j
        set message_id = (j.follow_up).message_id, follow_up = null, follow_up_due_at = null
        where j.ctid = any(v_keys);
        if v_follow_ups is not null then
            perform _message_enter(p_channel_id, v_follow_ups);
        end if;
    end if;

    if not exists (select from unnest(p_messages) m where m.group_key is not null)
        or not exists (select from channel c where c.channel_id = p_channel_id and c.kind = 'queue')
    then
        return;
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('what ends messages with a group key');
    end if;
    select array_agg(l.row_id), array_agg(l.group_key), array_agg(l.turn), array_agg(l.position)
    into v_turns, v_groups, v_numbers, v_marks
    from (
        select t.*
        from (
            select distinct m.group_key, m.message_id from unnest(p_messages) m
            where m.group_key is not null
            order by m.group_key
        ) e
        cross join lateral (
            select n.turn, n.message_id from group_turn n
            where n.channel_id = p_channel_id and n.group_key = e.group_key
            order by n.turn desc
            limit 1
        ) h
        cross join lateral (
            select n.ctid as row_id, n.group_key, n.turn, n.position from group_turn n
            where n.channel_id = p_channel_id and n.group_key = e.group_key and n.turn = h.turn
                and n.message_id = e.message_id
            limit 1
            for update
        ) t
        where h.message_id = e.message_id
    ) l;
    if v_turns is null then
        return; -- none of them had the turn: they ended while they waited
    end if;

    -- Found, and gone when its row is reached (a cancel, a replacement with a delay): looked for again.
    loop
        select
            array_agg(n.row_id order by t.ordinality), array_agg(n.position order by t.ordinality),
            array_agg(n.message_id order by t.ordinality), bool_or(f.position is not null and n.row_id is null)
        into v_nexts, v_positions, v_holders, v_is_gone
        from unnest(v_groups, v_marks) with ordinality t (group_key, position, ordinality)
        left join lateral (
            {{ next_of_group("t.group_key", "t.position") }}
        ) f on true
        left join lateral (
            select b.ctid as row_id, b.position, b.message_id from blocked b
            where b.channel_id = p_channel_id and b.group_key = t.group_key and b.position = f.position
            limit 1
            for update
        ) n on true;
        exit when v_is_gone is not true;
    end loop;

    with former as (
        delete from group_turn where ctid = any(v_turns)
    ), given as (
        insert into group_turn (channel_id, group_key, turn, position, message_id, taken_at)
        select
            p_channel_id, t.group_key, t.turn + 1, coalesce(t.next_position, t.position), t.holder, clock_now()
        from unnest(v_groups, v_numbers, v_marks, v_positions, v_holders)
            as t (group_key, turn, position, next_position, holder)
    ), taken as (
        delete from blocked where ctid = any(v_nexts) returning *
    )
    insert into ready (position, channel_id, {{ message_names() }})
    select nextval('position_seq'), n.channel_id, {{ message_names("n") }}
    from (select * from taken order by position) n;
end;
$$;

comment on function {{ schema }}._message_end(integer, {{ schema }}.message[]) is
'Hand over what messages of a group or of a job key held when they end: the turn to the next of the group, the key to its follow-up. Errors: TG030 when a message has a group key and the caller is not READ COMMITTED.';
