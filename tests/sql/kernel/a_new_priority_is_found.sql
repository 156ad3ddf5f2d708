-- R23, R26: priorities are probed only when they were ever used; the first message of one must not be missed
select plan(5);
select t.clock_stands();
select topic_create('orders', '{"lease": "1 day", "max_runtime": "1 day"}');
select outbox_put('orders', '"zero"');
select count(*) from outbox_claim('orders');
select t.clock_moves('1 second');
select count(*) from outbox_claim('orders');

select outbox_put('orders', '"seven"', p_priority => 7);
select t.clock_moves('1 second');
select results_eq($$select payload from outbox_claim('orders')$$, $$values ('"seven"'::jsonb)$$, 'within a tick');

-- delayed, by a spec, and by a route
select outbox_put('orders', '"three"', p_priority => 3, p_run_at => clock_now() + interval '1 second');
select t.clock_moves('2 seconds');
select results_eq($$select payload from outbox_claim('orders')$$, $$values ('"three"'::jsonb)$$, 'a delayed one too');
select outbox_put_specs('orders', '[{"payload": "four", "priority": 4}]');
select t.clock_moves('1 second');
select results_eq($$select payload from outbox_claim('orders')$$, $$values ('"four"'::jsonb)$$, 'one of a bulk put');
select queue_create('work');
select topic_create('routed');
select outbox_route('routed', 'work');
select count(*) from outbox_put_many('routed', array['9']::jsonb[], p_priority => 9);
select t.clock_moves('1 second');
select is((select s.dispatched from outbox_sweep() as s), 1, 'a routed one is swept');
select t.clock_moves('1 second');
select results_eq($$select payload from queue_claim('work')$$, $$values ('9'::jsonb)$$, 'and claimed from its queue');

select * from finish();
