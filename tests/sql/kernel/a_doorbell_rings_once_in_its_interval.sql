-- A ring is heard outside, at commit (tests/py/test_doorbell.py); here, when it is due. The last one stands in a sequence.
select plan(19);
select t.clock_stands('2026-01-01 12:00+00');
select topic_create('plain');
select queue_create('target', '{"doorbell": "10 ms"}');
select topic_create('orders', '{"doorbell": "10 ms"}');
select topic_create('swept');
select outbox_route('swept', 'target');

create function t.rung(p_name text) returns text
language sql volatile
return (
    select to_char(to_timestamp(pg_sequence_last_value(format('tidegate.doorbell_%s', c.channel_id)::regclass)
        / 1000000.0), 'MI:SS.MS')
    from tidegate.channel c where c.name = p_name
);

select is(t.rung('orders'), null, 'nobody has rung yet');
select outbox_put('plain', '{}');
select is(t.rung('orders'), null, 'who puts into another topic does not ring here');
select outbox_put('orders', '{}');
select is(t.rung('orders'), '00:00.000', 'a put rings');
select is(t.rung('target'), null, 'and only here');

-- within the interval nobody rings again
select t.clock_moves('9 ms');
select outbox_put('orders', '{}');
select outbox_put_many('orders', array['{}', '{}']::jsonb[]);
select is(t.rung('orders'), '00:00.000', 'who comes within the interval relies on that ring');
select t.clock_moves('1 ms');
select outbox_put_many('orders', array['{}', '{}']::jsonb[]);
select is(t.rung('orders'), '00:00.010', 'at its end, somebody rings again: many do, too');

select t.clock_moves('1 second');
select outbox_put('orders', '{}', p_priority => 1);
select is(t.rung('orders'), '00:01.010', 'an event with options rings like any other');
select t.clock_moves('1 second');
select outbox_put_many('orders', array['{}', '{}']::jsonb[], p_priority => 1);
select is(t.rung('orders'), '00:02.010', 'and so do many');

-- what is not to be had yet
select t.clock_moves('1 minute');
select outbox_put('orders', '{}', p_run_at => clock_now() + '1 hour');
select is(t.rung('orders'), '00:02.010', 'an event of later rings nobody');
select outbox_put('orders', '{}', p_idempotency_key => 'k');
select t.clock_moves('1 minute');
select outbox_put('orders', '{}', p_idempotency_key => 'k');
select is(t.rung('orders'), '01:02.010', 'nor does one that is known already');

-- a clock set back, by a failover for one, does not silence it
select t.clock_stands('2026-01-01 11:30+00');
select outbox_put('orders', '{}');
select is(t.rung('orders'), '30:00.000', 'a clock that was set back rings');

-- whatever lets messages in
select outbox_put('swept', '{}');
select is(t.rung('target'), null, 'an event of a routed topic does not ring in its queue');
select outbox_sweep();
select is(t.rung('target'), '30:00.000', 'the sweep that delivers it does');
select t.clock_moves('1 second');
select queue_send('target', '{}', p_group_key => 'g');
select is(t.rung('target'), '30:01.000', 'a message of a group rings');
select t.clock_moves('1 second');
select barrier_send('b', 'target', array['{}']::jsonb[]);
select is(t.rung('target'), '30:02.000', 'so do the messages of members');
select t.clock_moves('1 second');
select queue_release(l.lease_id) from (select distinct lease_id from queue_claim('target', 10)) l;
select is(t.rung('target'), '30:03.000', 'and what is given back');

-- prepared transactions turn it off
set tidegate.doorbell = off;
select t.clock_moves('1 second');
select queue_send('target', '{}');
select is(t.rung('target'), '30:03.000', 'a transaction may leave it alone');
reset tidegate.doorbell;

-- an interval of 0 needs no memory, nor does a doorbell that is taken away
select queue_configure('target', '{"doorbell": "0"}');
select queue_send('target', '{}');
select is(t.rung('target'), '30:03.000', 'without an interval nothing is remembered');
select queue_configure('target', '{"doorbell": null}');
select queue_send('target', '{}');
select is(t.rung('target'), '30:03.000', 'without a doorbell neither');

select * from finish();
