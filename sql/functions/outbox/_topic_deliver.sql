{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._topic_deliver(
    p_topic_id integer,
    p_topic text,
    p_archive boolean,
    p_ctids tid[],
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
 * The events are locked by the caller. Without handlers they move in one statement. With handlers:
 * first all of them in one subtransaction; if any raises, each in one of its own, and only those that raise are
 * charged. Queues receive only what every handler took.
 *
 * A plain SET in a handler outlives it, so our search_path is set again before anything else is looked up.
 *
 * Deferred constraints are checked where they can still be told apart, but only when the sweep is the first to write in
 * its transaction (p_may_check): it would else fire the caller's own deferred triggers, before PostgreSQL 18 with our
 * rights. Unchecked, they fail the transaction at its commit.
 *
 * Time: each pass stops calling handlers after half of what is left of statement_timeout, and leaves the rest where
 * it stands, so slow handlers still make progress. A handler that is cancelled by the timeout has therefore had at
 * least that long for itself: it is charged, and ends the pass. So does any other cancel, which cannot be told from
 * one that a handler passes on from elsewhere, and would otherwise stop the topic for ever.
 */
declare
    v_queues integer[];
    v_handlers text[];
    v_calls text[] := '{}';
    v_call text;
    v_ctids tid[];
    v_messages message[];
    v_message message;
    v_ordinal integer := 0;
    v_reached integer;
    v_failed integer[] := '{}';
    v_errors text[] := '{}';
    v_is_isolated boolean := false;
    v_end timestamptz := 'infinity';
    v_stop timestamptz := 'infinity';
begin
    claimed := 0;
    dispatched := 0;
    retried := 0;
    dead_lettered := 0;
    select
        array_agg(distinct r.queue_id) filter (where r.queue_id is not null),
        array_agg(distinct r.handler) filter (where r.handler is not null)
    into v_queues, v_handlers
    from route r
    where _topic_matches(r.topic, p_topic);

    if v_handlers is null then
        -- No route at all: the last one went away a moment ago, and the events are a relay's now.
        if v_queues is not null then
            claimed := _topic_move(p_topic_id, p_topic, p_archive, v_queues, p_ctids);
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
            "event_id": "coalesce(r.event_id, _event_id(i.event_prefix, r.message_id))",
        }) }})::message order by r.priority, r.position)
    into v_ctids, v_messages
    from ready r
    cross join installation i
    where r.ctid = any(p_ctids);
    v_reached := cardinality(v_messages);

    if current_setting('statement_timeout') <> '0' then
        v_end := statement_timestamp() + current_setting('statement_timeout')::interval;
        v_stop := clock_timestamp() + (v_end - clock_timestamp()) / 2;
    end if;
    begin
        foreach v_message in array v_messages loop
            if clock_timestamp() > v_stop then
                v_reached := v_ordinal;
                exit;
            end if;
            v_ordinal := v_ordinal + 1;
            foreach v_call in array v_calls loop
                execute v_call using v_message;
                perform pg_catalog.set_config(
                    'search_path', pg_catalog.format('%I, pg_temp', {{ schema_literal }}), true
                );
            end loop;
        end loop;
        if p_may_check then
            set constraints all immediate; -- what handlers deferred is checked while it can still be undone
        end if;
    exception
        when query_canceled then
            v_failed := array[v_ordinal];
            v_errors := array[sqlerrm];
            v_reached := 0; -- what the others did is undone, uncharged, and done again by a later sweep
        when others or assert_failure then
            v_is_isolated := true;
    end;

    if v_is_isolated then
        if v_end <> 'infinity' then
            v_stop := clock_timestamp() + (v_end - clock_timestamp()) / 2;
        end if;
        v_ordinal := 0;
        v_reached := cardinality(v_messages);
        foreach v_message in array v_messages loop
            if clock_timestamp() > v_stop and v_ordinal > 0 then
                v_reached := v_ordinal;
                exit;
            end if;
            v_ordinal := v_ordinal + 1;
            begin
                foreach v_call in array v_calls loop
                    execute v_call using v_message;
                    perform pg_catalog.set_config(
                        'search_path', pg_catalog.format('%I, pg_temp', {{ schema_literal }}), true
                    );
                end loop;
                if p_may_check then
                    set constraints all immediate;
                end if;
            exception
                when query_canceled then
                    v_failed := v_failed || v_ordinal;
                    v_errors := v_errors || sqlerrm;
                    v_reached := v_ordinal;
                    exit;
                when others or assert_failure then
                    v_failed := v_failed || v_ordinal;
                    v_errors := v_errors || sqlerrm;
            end;
        end loop;
    end if;

    if v_failed <> '{}' then
        first_error := v_errors[1];
        with failed as (
            delete from ready where ctid = any(array(select v_ctids[f] from unnest(v_failed) f)) returning *
        )
        select
            array_agg(row({{ message_names("f") }})::message order by f.priority, f.position)
        into v_messages
        from failed f;
        select f.retried, f.dead_lettered into retried, dead_lettered
        from _message_fail(p_topic_id, v_messages, v_errors, null, null) f;
        insert into tally (channel_id, outcome, amount)
        select p_topic_id, o.outcome, o.amount
        from (values ('retried', retried), ('dead_lettered', dead_lettered)) as o (outcome, amount)
        where o.amount > 0;
    end if;

    v_ctids := array(
        select v_ctids[o] from generate_series(1, v_reached) o where o <> all(v_failed) order by o
    );
    if v_ctids <> '{}' then
        dispatched := _topic_move(p_topic_id, p_topic, p_archive, v_queues, v_ctids);
    end if;
    claimed := dispatched + retried + dead_lettered;
end;
$$;

comment on function {{ schema }}._topic_deliver(integer, text, boolean, tid[], boolean) is
'Deliver locked events of one topic to all its routes and settle each by its own outcome. All 0, with first_error, when a handler of the topic is missing or unsafe: the events then stay.';
