-- R2
select plan(8);
select topic_create('orders', '{"max_attempts": 1}');
select topic_create('fan');
select queue_create('left');
select queue_create('right');
select outbox_route('fan', 'left');
select outbox_route('fan', 'right');

-- given an event that brings its identity
select outbox_put('orders', '{}', p_event_id => '11111111-2222-3333-4444-555555555555');
select lease_id, message_id, event_id from outbox_claim('orders') \gset
select is(:'event_id'::uuid, '11111111-2222-3333-4444-555555555555'::uuid, 'a relay sees the caller''s event_id');

-- when it dies
select outbox_settle(
    :'lease_id', '{}', jsonb_build_array(jsonb_build_object('message_id', :message_id, 'error', 'no'))
);
select is(
    (select event_id from dead_letter_list()),
    '11111111-2222-3333-4444-555555555555'::uuid,
    'so does its dead letter'
);
-- and is requeued
select dead_letter_requeue(array(select dead_letter_id from dead_letter_list()));
select results_eq(
    $$select event_id from outbox_claim('orders')$$,
    $$values ('11111111-2222-3333-4444-555555555555'::uuid)$$,
    'and its second life'
);

-- given an event without one, and two routes
select message_id as first_id from outbox_put('fan', '{}') \gset
select enqueued_at from ready where message_id = :first_id \gset
select outbox_sweep();
select event_id as left_id from queue_claim('left') \gset
select event_id as right_id from queue_claim('right') \gset
select is(:'left_id'::uuid, :'right_id'::uuid, 'every copy of a fan-out carries the same event_id');
select is(
    :'left_id'::uuid,
    (select _event_id(event_prefix, :first_id, :'enqueued_at') from installation),
    'derived from the installation, the first message_id and its time'
);
select isnt(
    :'left_id'::uuid,
    (select _event_id(event_prefix, :first_id, :'enqueued_at'::timestamptz + interval '1 millisecond') from installation),
    'an id that is drawn again after a failover is another event'
);
-- with one route nothing is copied
select outbox_unroute('fan', 'left');
select message_id as second_id from outbox_put('fan', '{}') \gset
select enqueued_at from ready where message_id = :second_id \gset
select outbox_sweep();
select is(
    (select event_id from queue_claim('right')),
    (select _event_id(event_prefix, :second_id, :'enqueued_at') from installation),
    'nor changed by the move'
);
select matches(
    :'left_id'::text,
    '^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$',
    'it is a version-8 UUID'
);

select * from finish();
