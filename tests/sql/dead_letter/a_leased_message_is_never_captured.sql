-- R50, R51, R55: exhaustion is settled by its holder or by expiry, never by a scan over live messages
select plan(5);
select t.clock_stands();
select topic_create('orders', '{"max_attempts": 1, "lease": "1 minute"}');
select outbox_put('orders', '{}');
select lease_id, message_id from outbox_claim('orders') \gset

-- given a message running its last attempt, when everything that sweeps has swept
select cleanup_sweep();
select outbox_sweep();
select t.clock_moves('59 seconds');
select count(*) from outbox_claim('orders');
select is(t.places('orders'), 'lease=1', 'it is left alone');
select is((select s.acked from outbox_settle(:'lease_id', array[:message_id]) as s), 1, 'and may still succeed');
select is(dead_letter_count(p_state => null), 0::bigint, 'nothing was captured');

-- and dead letters leave only when they are discarded, with a reason, and their retention has passed
select outbox_put('orders', '{}');
select lease_id, message_id from outbox_claim('orders') \gset
select outbox_settle(:'lease_id', '{}', jsonb_build_array(jsonb_build_object('message_id', :message_id)));
select t.clock_moves('10 years');
select cleanup_sweep();
select is(dead_letter_count(), 1::bigint, 'a dead letter is never cleaned away');
select throws_ok(
    $$select dead_letter_discard(array(select dead_letter_id from dead_letter), ' ')$$,
    'TG010', null, 'giving one up needs a reason'
);

select * from finish();
