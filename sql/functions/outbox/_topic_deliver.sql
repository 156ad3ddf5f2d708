{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._topic_deliver(
    p_topic_id integer,
    p_topic text,
    p_archive boolean,
    p_ctids tid[],
    p_has_priorities boolean,
    p_is_plain boolean,
    p_may_check boolean,
    out claimed integer,
    out dispatched integer,
    out retried integer,
    out dead_lettered integer,
    out first_error text
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The events are locked by the caller. Without handlers they move as a set; with handlers, queues receive only what
 * every handler took.
 */
declare
    v_queues integer[];
    v_handlers text[];
    v_draining text;
    v_rings boolean;
    v_calls text[] := '{}';
    v_call text;
    v_ctids tid[];
    v_messages message[];
    v_run record;
begin
    claimed := 0;
    dispatched := 0;
    retried := 0;
    dead_lettered := 0;
    select
        array_agg(distinct r.queue_id) filter (where r.queue_id is not null),
        array_agg(distinct r.handler) filter (where r.handler is not null),
        min(c.name) filter (where c.is_draining),
        bool_or(c.doorbell is not null)
    into v_queues, v_handlers, v_draining, v_rings
    from route r
    left join channel c on c.channel_id = r.queue_id
    where _topic_matches(r.topic, p_topic);

    if v_draining is not null then
        -- It takes no more, and an event goes to all its routes or to none: it waits.
        first_error := format('queue %L is draining: the events of topic %L wait', v_draining, p_topic);
        return;
    end if;

    if v_handlers is null then
        -- No route at all: the last one went away a moment ago, and the events are a relay's now.
        if v_queues is not null then
            claimed := _topic_move(p_topic_id, p_topic, p_archive, v_queues, p_ctids, p_has_priorities, p_is_plain);
        end if;
        if v_rings then
            perform _doorbell_ring(c.channel_id, c.kind, c.name, c.doorbell)
            from channel c
            where c.channel_id = any(v_queues) and c.doorbell is not null;
        end if;
        dispatched := claimed;
        return;
    end if;

    begin
        foreach v_call in array v_handlers loop
            v_calls := v_calls || _handler_call(v_call);
        end loop;
    exception
        when others then
            -- Not the events' fault: nobody is charged, and they wait until the handler or its route is mended.
            first_error := sqlerrm;
            perform _incident_note('outbox_sweep', p_topic_id, sqlstate, sqlerrm);
            return;
    end;

    select
        array_agg(r.ctid order by r.priority, r.position),
        array_agg(row({{ message_names("r", {
            "payload": "coalesce(r.payload, (select b.payload from body b where b.body_id = r.body_id))",
            "topic": "p_topic",
            "event_id": "coalesce(r.event_id, _event_id(i.event_prefix, r.message_id, r.enqueued_at))",
        }) }})::message order by r.priority, r.position)
    into v_ctids, v_messages
    from ready r
    cross join installation i
    where r.ctid = any(p_ctids);
    select * into v_run from _handler_run(v_calls, v_messages, p_may_check);

    if v_run.failed <> '{}' then
        first_error := v_run.errors[1];
        with failed as (
            delete from ready where ctid = any(array(select v_ctids[f] from unnest(v_run.failed) f)) returning *
        )
        select
            array_agg(row({{ message_names("f") }})::message order by f.priority, f.position)
        into v_messages
        from failed f;
        select f.retried, f.dead_lettered into retried, dead_lettered
        from _message_fail(p_topic_id, v_messages, v_run.errors, v_run.finals, null) f;
        insert into tally (channel_id, outcome, amount)
        select p_topic_id, o.outcome, o.amount
        from (values ('retried', retried), ('dead_lettered', dead_lettered)) as o (outcome, amount)
        where o.amount > 0;
    end if;

    v_ctids := array(
        select v_ctids[o] from generate_series(1, v_run.reached) o where o <> all(v_run.failed) order by o
    );
    if v_ctids <> '{}' then
        dispatched := _topic_move(p_topic_id, p_topic, p_archive, v_queues, v_ctids, p_has_priorities, p_is_plain);
        if v_rings then
            perform _doorbell_ring(c.channel_id, c.kind, c.name, c.doorbell)
            from channel c
            where c.channel_id = any(v_queues) and c.doorbell is not null;
        end if;
    end if;
    claimed := dispatched + retried + dead_lettered;
end;
$$;

comment on function {{ schema }}._topic_deliver(integer, text, boolean, tid[], boolean, boolean, boolean) is
'Deliver locked events of one topic to all its routes and settle each by its own outcome. All 0, with first_error, when a handler of the topic is missing or unsafe, or one of its queues is draining: the events then stay.';
