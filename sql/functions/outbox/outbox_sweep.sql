{% from "macros/claim.sql" import lock_candidates, may_tick, newest_floor, tick_when_due %}
create or replace function {{ schema }}.outbox_sweep(
    p_limit integer default 500,
    p_topic text default null,
    out claimed integer,
    out dispatched integer,
    out retried integer,
    out dead_lettered integer,
    out first_error text
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Topic by topic, in random order so that none starves: lock what is due, and hand it to every route in this one
 * transaction. Of two sweeps at once, each takes what the other has not locked. A sweep within a sweep would not skip
 * what the outer one has locked, and is refused.
 */
declare
    v_now timestamptz := clock_now();
    v_channel channel;
    v_floor floor;
    v_may_tick constant boolean := {{ may_tick() }};
    v_drawn bigint;
    v_priority smallint;
    v_limit integer;
    v_ctids tid[];
    v_has_run boolean;
    v_has_priorities boolean;
    v_is_plain boolean;
    v_may_check constant boolean := pg_current_xact_id_if_assigned() is null; -- nothing written, nothing deferred
    v_outcome record;
begin
    claimed := 0;
    dispatched := 0;
    retried := 0;
    dead_lettered := 0;
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Sweep between 1 and 10000 events at a time.');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('outbox_sweep');
    end if;
    if current_setting('tidegate.handling', true) = 'on' then
        raise exception using
            errcode = 'TG031',
            message = 'outbox_sweep was called by a handler',
            hint = 'A handler may put and send; what it puts is swept by the next sweep.';
    end if;
    if p_topic is not null and not exists (
        select from channel c where c.kind = 'topic' and c.name = p_topic and c.is_routed
    ) then
        perform _no_such_channel('topic', p_topic)
        where not exists (select from channel c where c.kind = 'topic' and c.name = p_topic);
        raise exception using
            errcode = 'TG022',
            message = format('topic %L has no route', p_topic),
            hint = 'Make one with outbox_route, or drain it with a relay (outbox_claim, outbox_settle).';
    end if;

    for v_channel in
        select * from channel c
        where c.kind = 'topic' and c.is_routed and not c.is_paused and (p_topic is null or c.name = p_topic)
        order by random()
    loop
        {{ newest_floor() }}
        v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;
        {{ tick_when_due("v_may_tick") | indent }}

        v_limit := p_limit - claimed;
        {{ lock_candidates("p_limit - claimed", "topic") | indent }}
        continue when v_ctids is null;

        begin
            select * into v_outcome
            from _topic_deliver(
                v_channel.channel_id, v_channel.name, v_channel.archive, v_ctids,
                v_has_priorities, v_is_plain, v_may_check
            );
        exception
            when others then
                -- Not a handler's error, which is its event's: one topic that cannot be moved stops no other.
                perform _incident_note('outbox_sweep', v_channel.channel_id, sqlstate, sqlerrm);
                first_error := coalesce(first_error, sqlerrm);
                continue;
        end;
        claimed := claimed + v_outcome.claimed;
        dispatched := dispatched + v_outcome.dispatched;
        retried := retried + v_outcome.retried;
        dead_lettered := dead_lettered + v_outcome.dead_lettered;
        first_error := coalesce(first_error, v_outcome.first_error);
        exit when claimed = p_limit;
    end loop;
end;
$$;

comment on function {{ schema }}.outbox_sweep(integer, text) is
'Deliver up to p_limit due events of routed topics, or of one of them, each to all its routes in this transaction: to queues as a set, to SQL handlers with a retry one by one, so that one that raises fails alone. claimed = dispatched + retried + dead_lettered; all 0 when nothing is due. first_error is the first failed event''s own, or that of a topic held back by a handler that is missing or unsafe. Errors: TG010 bad argument, TG020 no such topic, TG022 a topic without a route, TG030 not READ COMMITTED, TG031 inside a handler.';
