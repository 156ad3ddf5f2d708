-- R1
select plan(3);
select topic_create('orders');

-- given a producer that rolls back
begin;
select outbox_put('orders', '{"order": 1}');
rollback;

-- and one that rolls back to a savepoint and commits the rest
begin;
select outbox_put('orders', '{"order": 2}');
savepoint here;
select outbox_put('orders', '{"order": 3}');
rollback to here;

-- then nothing can be claimed before the commit by anybody else, and the producer itself sees it
select is(t.places('orders'), 'ready=1', 'the event stands in ready inside its own transaction');
commit;

select results_eq(
    $$select payload from outbox_claim('orders')$$,
    $$values ('{"order": 2}'::jsonb)$$,
    'exactly what was committed is there'
);
select is(t.places('orders'), 'lease=1', 'and only once');

select * from finish();
