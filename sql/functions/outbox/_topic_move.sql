{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._topic_move(
    p_topic_id integer, p_topic text, p_archive boolean, p_queues integer[], p_ctids tid[],
    p_has_priorities boolean, p_is_plain boolean
) returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Others see an event in its topic or in all its queues. Targets are the queues, and null for the archive: the first
 * receives the event itself, each further one a copy with a message_id and a body of its own, under the same event_id.
 * In a queue, events of a group wait for their turn in blocked. Without a target the handlers were all there was to do,
 * and the event ends.
 */
declare
    v_targets integer[] := coalesce(p_queues, '{}') || case when p_archive then array[null::integer] else '{}' end;
    v_queue_id integer := p_queues[1];
    v_moved integer;
begin
    if p_has_priorities then
        perform _priority_declare(
            q.queue_id, array(select r.priority from ready r where r.ctid = any(p_ctids))
        )
        from unnest(p_queues) q (queue_id);
    end if;

    -- One queue and no archive, the ordinary case: nothing is copied, and no dead letter waits for it. The rows are
    -- locked, so both statements see the same; a delete that returned them would store them once more. Each priority
    -- keeps its order.
    if cardinality(v_targets) = 1 and not p_archive and p_is_plain then
        insert into ready (position, channel_id, {{ message_names() }})
        select nextval('position_seq'), v_queue_id, {{ message_names("t", {
            "attempts": "0",
            "max_attempts": "null",
            "max_batch": "null",
            "topic": "p_topic",
            "requeued_from": "null",
            "errors": "null",
        }) }}
        from (select * from ready where ctid = any(p_ctids) order by position) t;
        delete from ready where ctid = any(p_ctids);
        get diagnostics v_moved = row_count;
        insert into tally (amount, channel_id, outcome) values (v_moved, p_topic_id, 'dispatched');
        return v_moved;
    end if;

    with taken as (
        delete from ready where ctid = any(p_ctids) returning *
    ), delivery as (
        select
            t.*, q.target, q.ordinality > 1 as is_copy, nextval('position_seq') as drawn,
            case
                when q.ordinality > 1 and t.body_id is not null then nextval('body_body_id_seq') else t.body_id
            end as own_body_id
        from (select * from taken order by priority, position) t
        cross join unnest(v_targets) with ordinality q (target, ordinality)
    ), {% for place in ["ready", "blocked"] %}{{ "entered" if place == "ready" else "waiting" }} as (
        insert into {{ place }} (position, channel_id, {{ message_names() }})
        select
            d.drawn, d.target,
            {{ message_names("d", {
                "message_id": "case when d.is_copy then d.drawn else d.message_id end",
                "attempts": "0",
                "event_id": "case
                    when d.is_copy
                        then coalesce(d.event_id, _event_id(i.event_prefix, d.message_id, d.enqueued_at))
                    else d.event_id
                end",
                "body_id": "d.own_body_id",
                "max_attempts": "null",
                "max_batch": "null",
                "topic": "p_topic",
                "requeued_from": "null",
                "errors": "null",
            }) }}
        from delivery d
        cross join installation i
        where d.target is not null and d.group_key is {{ "null" if place == "ready" else "not null" }}
    ), {% endfor %}archived as (
        insert into archive (settled_at, channel_id, {{ message_names() }})
        select
            clock_now(), p_topic_id,
            {{ message_names("d", {
                "body_id": "d.own_body_id",
                "event_id": "coalesce(d.event_id, _event_id(i.event_prefix, d.message_id, d.enqueued_at))",
            }) }}
        from delivery d
        cross join installation i
        where d.target is null
    ), copied as (
        insert into body (body_id, payload) overriding system value
        select d.own_body_id, b.payload
        from delivery d
        inner join body b on b.body_id = d.body_id
        where d.own_body_id <> d.body_id
    ), freed as (
        delete from body b using taken t where b.body_id = t.body_id and v_targets = '{}'
    ), resolved as (
        update dead_letter d set state = 'resolved', resolved_at = clock_now()
        from taken t
        where d.dead_letter_id = t.requeued_from
    )
    insert into tally (channel_id, outcome, amount)
    select p_topic_id, 'dispatched', count(*) from taken
    returning amount into v_moved;
    return v_moved;
end;
$$;

comment on function {{ schema }}._topic_move(integer, text, boolean, integer[], tid[], boolean, boolean) is
'Move locked events from their topic to queues and, where it is on, the archive; count them as dispatched. Returns how many.';
