-- R6
select plan(6);
select topic_create('routed');
select topic_create('relayed');
select queue_create('work');
select outbox_route('routed', 'work');
select outbox_put('routed', '{"n": 1}');
select outbox_put('relayed', '{"n": 2}');

select throws_ok(
    $$select * from outbox_claim('routed')$$, 'TG022', null, 'a relay may not claim from a routed topic'
);
select throws_ok(
    $$select * from outbox_sweep(500, 'relayed')$$, 'TG022', null, 'a topic without routes is not swept'
);
select is(
    (select s::text from outbox_sweep() as s), '(1,1,0,0,)', 'a sweep takes what is routed and leaves the rest'
);
select results_eq(
    $$select payload, topic from queue_claim('work')$$,
    $$values ('{"n": 1}'::jsonb, 'routed')$$,
    'the queue has it'
);
select is(t.places('relayed'), 'ready=1', 'the relay''s event waits for its relay');

-- when its last route goes away
select outbox_unroute('routed', 'work');
select outbox_put('routed', '{"n": 3}');
select results_eq(
    $$select payload from outbox_claim('routed')$$,
    $$values ('{"n": 3}'::jsonb)$$,
    'a relay may drain it'
);

select * from finish();
