{% from "macros/claim.sql" import lock_candidates, may_tick, newest_floor, tick_when_due %}
{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}.queue_work(
    p_queue text, p_handler text, p_limit integer default 100
) returns {{ schema }}.settled
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * A claim, its work and its settlement in one transaction, so there is no lease and nothing to count against
 * max_in_flight: whatever goes wrong with the transaction, the messages never left.
 *
 * They are taken out before the handlers run, not only locked: a handler that claims from, or purges, its own queue
 * would not be stopped by locks of its own transaction. What was not reached goes back to the position it had. That is
 * no entry: to everybody else it has been there all the time, so floors stay true.
 *
 * Who sends or cancels by a job key locks the key, and then waits for the message. So the key is locked here before the
 * work, not after it; where somebody has it already, the message is left to him.
 */
declare
    v_now timestamptz := clock_now();
    v_channel channel;
    v_floor floor;
    v_may_tick constant boolean := {{ may_tick() }};
    v_may_check constant boolean := pg_current_xact_id_if_assigned() is null; -- nothing written, nothing deferred
    v_drawn bigint;
    v_priority smallint;
    v_limit integer := p_limit;
    v_call text;
    v_ctids tid[];
    v_has_run boolean;
    v_positions bigint[];
    v_keys text[];
    v_messages message[]; -- as they stand
    v_deliveries message[]; -- as handlers see them
    v_run record;
    v_done message[];
    v_failed message[];
    v_answer settled := row(0, 0, 0, false);
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Work on between 1 and 10000 messages at a time.');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('queue_work');
    end if;
    if current_setting('tidegate.handling', true) = 'on' then
        raise exception using
            errcode = 'TG031',
            message = 'queue_work was called by a handler',
            hint = 'A handler may put and send; what it sends is worked on by the next call.';
    end if;
    select * into v_channel from channel where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    v_call := _handler_call(p_handler);
    if v_channel.is_paused then
        return v_answer;
    end if;

    {{ newest_floor() }}
    v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;
    {{ tick_when_due("v_may_tick") }}
    for v_round in 1 .. 10 loop
        v_limit := p_limit;
        {{ lock_candidates("p_limit", "queue", "(v_keys is null or n.job_key is null)") | indent }}
        continue when v_ctids is null and v_has_run; -- all of them were refused
        exit when v_ctids is null;

        select
            array_agg(r.ctid order by r.priority, r.position),
            array_agg(r.position order by r.priority, r.position),
            array_agg(row({{ message_names("r") }})::message order by r.priority, r.position)
        into v_ctids, v_positions, v_messages
        from ready r
        where r.ctid = any(v_ctids);
        v_limit := _batch_fit(v_messages);
        v_messages := v_messages[:v_limit];
        if exists (select from unnest(v_messages) m where m.job_key is not null) then
            with held as (
                select j.key from unnest(v_messages) m
                inner join job_key j
                    on j.channel_id = v_channel.channel_id and j.key = m.job_key and j.message_id = m.message_id
                for update of j skip locked
            )
            select coalesce(array_agg(h.key), '{}') into v_keys from held h;
            select
                array_agg(v_ctids[m.ordinality] order by m.ordinality),
                array_agg(v_positions[m.ordinality] order by m.ordinality),
                array_agg(row({{ message_names("m") }})::message order by m.ordinality)
            into v_ctids, v_positions, v_messages
            from unnest(v_messages) with ordinality m
            where m.job_key is null or m.job_key = any(v_keys) or not exists (
                select from job_key j
                where j.channel_id = v_channel.channel_id and j.key = m.job_key and j.message_id = m.message_id
            );
        end if;
        exit when v_messages is not null;
        -- Somebody has the key of each: what has none is looked for behind them.
    end loop;
    if v_messages is null then
        return v_answer;
    end if;
    delete from ready where ctid = any(v_ctids[:cardinality(v_messages)]);
    select array_agg(row({{ message_names("m", {
        "payload": "coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id))",
        "event_id": "coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at))",
    }) }})::message order by m.ordinality)
    into v_deliveries
    from unnest(v_messages) with ordinality m;

    select * into v_run from _handler_run(array[v_call], v_deliveries, v_may_check);
    if not exists (select from channel c where c.channel_id = v_channel.channel_id) then
        perform _no_such_channel('queue', p_queue); -- a handler dropped it, which undoes both
    end if;

    insert into ready (position, channel_id, {{ message_names() }})
    select v_positions[m.ordinality], v_channel.channel_id, {{ message_names("m") }}
    from unnest(v_messages) with ordinality m
    where m.ordinality > v_run.reached and m.ordinality <> all(v_run.failed);
    select
        array_agg(row({{ message_names("m") }})::message order by m.ordinality)
        filter (where m.ordinality <> all(v_run.failed)),
        array_agg(row({{ message_names("m") }})::message order by m.ordinality)
        filter (where m.ordinality = any(v_run.failed))
    into v_done, v_failed
    from unnest(v_messages) with ordinality m
    where m.ordinality <= v_run.reached or m.ordinality = any(v_run.failed);

    if v_done is not null and v_failed is not null
        and exists (select from unnest(v_messages) m where m.barrier is not null)
    then
        perform _member_lock(v_done || v_failed, true);
    end if;
    if v_done is not null then
        perform _message_finish(v_channel.channel_id, v_channel.archive, v_done);
        v_answer.acked := cardinality(v_done);
    end if;
    if v_failed is not null then
        select f.retried, f.dead_lettered into v_answer.retried, v_answer.dead_lettered
        from _message_fail(v_channel.channel_id, v_failed, v_run.errors, v_run.finals, null) f;
    end if;
    insert into tally (channel_id, outcome, amount)
    select v_channel.channel_id, o.outcome, o.amount
    from (values
        ('acked', v_answer.acked), ('retried', v_answer.retried), ('dead_lettered', v_answer.dead_lettered)
    ) as o (outcome, amount)
    where o.amount > 0;
    return v_answer;
end;
$$;

comment on function {{ schema }}.queue_work(text, text, integer) is
'Call a SQL handler with up to p_limit messages of a queue, in the order of claims, and settle each by its own outcome: all in this transaction, so effects in this database happen exactly once. All 0 when nothing is ready or the queue is paused; nothing is leased, so max_in_flight does not count here. Errors: TG010 bad argument, TG020 no such queue, TG030 not READ COMMITTED, TG031 inside a handler, TG040 unsafe handler, TG041 no such handler.';
