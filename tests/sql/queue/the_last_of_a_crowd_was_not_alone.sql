-- R28: charged is who was claimed alone, not who was left over
select plan(5);
select t.clock_stands();
select queue_create('work', '{"lease": "1 minute", "max_attempts": 1}');
select count(*) from queue_send_many('work', array['1', '2', '3', '4', '5']::jsonb[]);

-- a worker acks one by one, and dies after the fourth
select lease_id from queue_claim('work', 5) limit 1 \gset
select queue_ack(:'lease_id', array(select message_id from lease, unnest(messages) order by 1 limit 4));
select t.clock_moves('2 minutes');
select results_eq(
    $$select payload, attempt from queue_claim('work')$$, $$values ('5'::jsonb, 1)$$, 'the fifth comes back uncharged'
);
select is(t.total('work', 'expired'), 1::bigint, 'its expiry is counted');
select is(t.total('work', 'dead_lettered'), 0::bigint, 'nobody died');

-- now it was alone
select t.clock_moves('2 minutes');
select is_empty($$select * from queue_claim('work')$$, 'when it kills its worker alone, it is charged');
select results_eq(
    $$select t.total('work', 'expired'), t.total('work', 'dead_lettered'), count(*) from dead_letter$$,
    $$values (2::bigint, 1::bigint, 1::bigint)$$,
    'and a death by expiry is counted as a death'
);

select * from finish();
