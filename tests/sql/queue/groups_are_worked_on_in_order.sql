-- R39: of a group one message is in work, in order; retries keep the turn, and every end hands it on
select plan(23);
select t.clock_stands();
select queue_create('q', '{"lease": "1 minute", "backoff_base": "10 seconds", "jitter": 0, "max_attempts": 2}');
-- what the next claim takes, in order, after a second
create function pg_temp.takes(p_limit integer default 10) returns text language plpgsql as $$
declare
    v_took text;
begin
    perform t.clock_moves('1 second');
    set local tidegate.tick = 'on';
    select string_agg(payload #>> '{}', ' ') into v_took from queue_claim('q', p_limit, p_worker => 'w');
    return coalesce(v_took, '-');
end;
$$;
create function pg_temp.lease_of(p_payload text) returns uuid language sql as $$
    select lease_id from lease
    where exists (
        select from unnest(messages) with ordinality m
        where m.payload #>> '{}' = p_payload and m.ordinality <> all(coalesce(settled, '{}'))
    )
$$;
create function pg_temp.id_of(p_payload text) returns bigint language sql as $$
    select m.message_id from lease l cross join unnest(l.messages) m where m.payload #>> '{}' = p_payload
$$;

-- given two groups of three, and one message without a group
select count(*) from queue_send_many('q', array['"a1"', '"a2"', '"a3"']::jsonb[], p_group_key => 'a');
select count(*) from queue_send_many('q', array['"b1"', '"b2"', '"b3"']::jsonb[], p_group_key => 'b');
select queue_send('q', '"free"');
select is(pg_temp.takes(), 'free a1 b1', 'a claim of ten takes the first of each');
select is(pg_temp.takes(), '-', 'and the others wait');
select is((select a::text from queue_ack(pg_temp.lease_of('a1'), array[pg_temp.id_of('a1')]) a), '(1,0,0,f)', 'an ack');
select is(pg_temp.takes(), 'a2', 'hands on to the next of its group only');
select is((select a.retried from queue_nack(pg_temp.lease_of('a2')) a), 1, 'a failure with a retry');
select is(pg_temp.takes(), '-', 'keeps the group waiting');
select t.clock_moves('10 seconds');
select is(pg_temp.takes(), 'a2', 'for it');
select is((select a.dead_lettered from queue_nack(pg_temp.lease_of('a2')) a), 1, 'a death');
select is(pg_temp.takes(), 'a3', 'hands on');
select queue_release(pg_temp.lease_of('a3'));
select is(pg_temp.takes(), 'a3', 'a release does not');
select queue_release(pg_temp.lease_of('a3'), p_retry_in => '1 minute');
select queue_send('q', '"a4"', p_group_key => 'a');
select is(pg_temp.takes(), '-', 'nor for a minute');

-- when the lease of free and b1 expires, and a3 is due
select t.clock_moves('1 minute');
select is(pg_temp.takes(1), 'a3', 'what became due');
select is(pg_temp.takes(1), 'free', 'and what was leased together come back');
select is(pg_temp.takes(1), 'b1', 'each with its turn');
select count(*) from queue_cancel('q', array(select message_id from blocked where payload = '"b2"'));
select queue_ack(pg_temp.lease_of('b1'));
select is(pg_temp.takes(), 'b3', 'one that was cancelled while it waited is stepped over');
select queue_nack(pg_temp.lease_of('b3'));
select queue_send('q', '"b4"', p_group_key => 'b');
select count(*) from queue_cancel('q', array(select message_id from scheduled where payload = '"b3"'));
select is(pg_temp.takes(), 'b4', 'one that is cancelled while it waits for its retry hands on');

-- a delay is before the group: it comes in when it is due, behind what came before that
select queue_send('q', '"b5"', p_group_key => 'b', p_run_at => clock_now() + '5 seconds');
select queue_send('q', '"b6"', p_group_key => 'b');
select t.clock_moves('10 seconds');
select is(pg_temp.takes(), '-', 'what was delayed waits for its turn too');
select queue_ack(pg_temp.lease_of('b4'));
select is(pg_temp.takes(), 'b6', 'behind what came in before it was due');
select queue_ack(pg_temp.lease_of('b6'));
select is(pg_temp.takes(), 'b5', 'and then comes');

-- a dead letter comes back behind what waits
select queue_ack(lease_id) from lease;
select is(pg_temp.takes(), 'a4', 'given one in work');
select count(*) from dead_letter_requeue(array(select dead_letter_id from dead_letter where state = 'dead'));
select is(pg_temp.takes(), '-', 'a requeued one waits');
select queue_ack(lease_id) from lease;
select is(pg_temp.takes(), 'a2', 'until its group lets it in');
select queue_ack(lease_id) from lease;
select results_eq(
    $$select (select count(*) from blocked), count(*), count(message_id) from group_turn$$,
    $$values (0::bigint, 2::bigint, 0::bigint)$$, 'nobody waits, and nobody has a turn'
);
select * from finish();
