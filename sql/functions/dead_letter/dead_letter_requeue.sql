{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}.dead_letter_requeue(
    p_dead_letter_ids bigint[],
    p_reset_attempts boolean default true,
    p_note text default null,
    out dead_letter_id bigint,
    out message_id bigint,
    out outcome text
) returns setof record
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
as $$
#variable_conflict use_column
/*
 * The entry stays and its child carries its id: the state is requeued exactly while the child is alive. Only entries
 * that are dead are locked, in order of their ids: nobody settles a child of those, so no settlement is waited for, and
 * of two requeues at once the second finds nothing left to lock. The others are read afterwards, in a new snapshot.
 */
declare
    v_locked bigint[];
begin
    select array_agg(l.dead_letter_id) into v_locked
    from (
        select d.dead_letter_id from dead_letter d
        where d.dead_letter_id = any(p_dead_letter_ids) and d.state = 'dead'
        order by d.dead_letter_id
        for update
    ) l;

    return query
    with judged as (
        select
            w.ordinal, w.id,
            case
                when d.dead_letter_id is null then 'unknown'
                when d.dead_letter_id <> all(coalesce(v_locked, '{}'))
                    then 'already_' || case d.state when 'dead' then 'requeued' else d.state end
                when c.channel_id is null then 'no_channel'
                else 'requeued'
            end as outcome
        from (
            select i.id, min(i.ordinality) as ordinal
            from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
            group by i.id
        ) w
        left join dead_letter d on d.dead_letter_id = w.id
        left join channel c on c.channel_id = d.channel_id
    ), chosen as (
        select
            e.*, j.ordinal, nextval('position_seq') as drawn,
            case when e.body_id is not null then nextval('body_body_id_seq') end as own_body_id
        from judged j
        inner join dead_letter e on e.dead_letter_id = j.id
        where j.outcome = 'requeued'
        order by j.ordinal
    ), copied as (
        insert into body (body_id, payload) overriding system value
        select h.own_body_id, b.payload
        from chosen h
        inner join body b on b.body_id = h.body_id
        returning 1
    ), entered as (
        insert into ready (position, channel_id, {{ message_names() }})
        select
            h.drawn, h.channel_id,
            {{ message_names("h", {
                "message_id": "h.drawn",
                "attempts": "case when p_reset_attempts then 0 else h.attempts end",
                "event_id": "coalesce(h.event_id, _event_id(i.event_prefix, h.message_id))",
                "body_id": "h.own_body_id",
                "max_batch": "null",
                "requeued_from": "h.dead_letter_id",
            }) }}
        from chosen h
        cross join installation i
        returning ready.requeued_from, ready.message_id, ready.channel_id
    ), marked as (
        update dead_letter d
        set state = 'requeued', requeued_count = d.requeued_count + 1, last_requeued_at = clock_now(),
            notes = d.notes || jsonb_build_object(
                'at', clock_now(), 'by', session_user, 'did', 'requeue', 'note', p_note
            )
        from chosen h
        where d.dead_letter_id = h.dead_letter_id
        returning 1
    ), counted as (
        insert into tally (channel_id, outcome, amount)
        select e.channel_id, 'requeued', count(*) from entered e group by e.channel_id
        returning 1
    )
    select j.id, e.message_id, j.outcome
    from judged j
    left join entered e on e.requeued_from = j.id
    order by j.ordinal;
end;
$$;

comment on function {{ schema }}.dead_letter_requeue(bigint[], boolean, text) is
'Send dead letters back to where they died, in one transaction, with their priority, headers and identity; attempts start at 0 unless p_reset_attempts is false. One row an id: requeued, already_requeued (its message is still alive), already_resolved, already_discarded, no_channel, or unknown. The success of the message resolves the entry; its death returns it. Not for REPEATABLE READ: two requeues at once then raise 40001.';
