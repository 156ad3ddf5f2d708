-- Must hold 4: a failover to a host whose clock is behind
select plan(5);
select t.clock_stands();
select topic_create('orders', '{"backoff_base": "10 s", "jitter": 0}');

-- given ticks at noon, and a clock that then stands an hour before
select count(*) from outbox_put_many('orders', array['"leased"', '"failed"']::jsonb[]);
select _tick((select channel_id from channel));
select t.clock_moves('-1 hour');

-- when deadlines are written that lie before all marks
select outbox_put('orders', '"delayed"', p_run_at => clock_now() + interval '5 s');
select count(*) from outbox_claim('orders', 1, '20 s');
select lease_id, message_id from outbox_claim('orders', 1, '20 s') \gset
select outbox_settle(:'lease_id', '{}', jsonb_build_array(jsonb_build_object('message_id', :message_id)));
select t.clock_moves('5 s');
select results_eq($$select payload from outbox_claim('orders')$$, $$values ('"delayed"'::jsonb)$$, 'a delayed event comes');
select t.clock_moves('5 s');
select results_eq($$select payload from outbox_claim('orders')$$, $$values ('"failed"'::jsonb)$$, 'a retry comes');
select t.clock_moves('10 s');
select is_empty($$select * from outbox_claim('orders')$$, 'an expired lease is taken back');
select t.clock_moves('10 s');
select results_eq($$select payload from outbox_claim('orders')$$, $$values ('"leased"'::jsonb)$$, 'and its event comes');
select is(t.places('orders'), 'lease=3', 'nothing is lost');

select * from finish();
