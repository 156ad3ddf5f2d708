-- R3
select plan(7);
select topic_create('orders');
select topic_create('refunds');

-- given an event with a key
select message_id as first_id from outbox_put('orders', '{"n": 1}', p_idempotency_key => 'k1') \gset

select is(
    (select p::text from outbox_put('orders', '{"n": 2}', p_idempotency_key => 'k1') as p),
    format('(%s,deduplicated)', :first_id),
    'a repeat answers deduplicated with the first id'
);
select is(t.places('orders'), 'ready=1', 'and inserts nothing');
select is(
    (select p.outcome from outbox_put('refunds', '{}', p_idempotency_key => 'k1') as p),
    'inserted',
    'a key belongs to its topic'
);

-- when the event has been consumed
select lease_id from outbox_claim('orders') \gset
select is(
    (select s.acked from outbox_settle(:'lease_id', array[:first_id]) as s), 1, 'the event is consumed'
);
select is(
    (select p::text from outbox_put('orders', '{"n": 3}', p_idempotency_key => 'k1') as p),
    format('(%s,deduplicated)', :first_id),
    'the key is remembered whatever became of the event'
);

-- and a put that was rolled back leaves no key behind
begin;
select outbox_put('orders', '{"n": 4}', p_idempotency_key => 'k2');
rollback;
select is(
    (select p.outcome from outbox_put('orders', '{"n": 4}', p_idempotency_key => 'k2') as p),
    'inserted',
    'a key of a transaction that rolled back is free'
);
select is(t.places('orders'), 'ready=1', 'and its event is there once');

select * from finish();
