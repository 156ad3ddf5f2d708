-- R18, R27, R28, R29
select plan(9);
select t.clock_stands();
select topic_create('orders', '{"lease": "1 minute", "max_attempts": 2}');
select outbox_put('orders', '{}');

-- given a relay that died after publishing
select lease_id as old_lease, message_id, event_id from outbox_claim('orders', p_worker => 'w1') \gset
select t.clock_moves('59 seconds');
select is_empty($$select * from outbox_claim('orders')$$, 'a lease holds for its time');

-- when its lease has passed, with nothing running but claimers
select t.clock_moves('1 second');
select is_empty(
    $$select * from outbox_claim('orders')$$, 'the message was alone in its lease: it is charged and waits its backoff'
);
select t.clock_moves('1 minute');
select lease_id as new_lease, event_id as new_event, attempt from outbox_claim('orders', p_worker => 'w2') \gset
select is(:'new_event'::uuid, :'event_id'::uuid, 'it comes again under the same event_id');
select is(:attempt, 2, 'as its second attempt');

-- then the old relay changes nothing
select is(
    (select s::text from outbox_settle(:'old_lease', array[:message_id]) as s), '(0,0,0,t)', 'a late settlement is lost'
);
select is(
    (select s::text from outbox_release(:'old_lease') as s), '(0,0,0,t)', 'so is a late release'
);
select is(t.places('orders'), 'lease=1', 'the new owner keeps it');

-- and poison that kills its workers dies
select t.clock_moves('1 minute');
select is_empty($$select * from outbox_claim('orders')$$, 'the second crash is the last');
select results_eq(
    $$select reason, attempts::int, last_error from dead_letter$$,
    $$values ('expired', 2, 'lease expired: worker w2 did not settle')$$,
    'and ends as a dead letter'
);

select * from finish();
