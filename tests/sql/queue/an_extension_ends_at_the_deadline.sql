-- R30, R113
select plan(14);
select t.clock_stands();
select queue_create('q', '{"lease": "1 minute", "max_runtime": "150 seconds"}');
select count(*) from queue_send_many('q', array['1', '2', '3']::jsonb[]);
select t.clock_moves('1 second');
select lease_id, count(*), min(message_id) as first from queue_claim('q', 2) group by 1 \gset
select t.clock_moves('50 seconds');
select results_eq(
    format($$select expires_at - clock_now(), deadline - clock_now(), cancelled, lost from queue_extend(%L)$$, :'lease_id'),
    $$values (interval '1 minute', interval '100 seconds', '{}'::bigint[], false)$$, 'it now ends a lease from now'
);
select is((select expires_at - clock_now() from queue_extend(:'lease_id', '20 seconds')), interval '20 seconds', 'or as told, sooner too');
select is((select expires_at - clock_now() from queue_extend(:'lease_id', '1 hour')), interval '100 seconds', 'but not after its deadline');
select queue_ack(:'lease_id', array[:first]);
select is((select e.lost from queue_extend(:'lease_id') e), false, 'what is settled in part is extended');
select t.clock_moves('60 seconds');
select is((select expires_at - clock_now() from queue_extend(:'lease_id')), interval '40 seconds', 'up to it');
select t.clock_moves('1 minute');
select is((select expires_at - clock_now() from queue_extend(:'lease_id')), interval '-20 seconds', 'after it no more');
select is((select e.lost from queue_extend(:'lease_id') e), false, 'it is its holder''s until a tick takes it back');
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('q', 1)), 1::bigint, 'which then happens');
select results_eq(
    format($$select expires_at, deadline, cancelled, lost from queue_extend(%L)$$, :'lease_id'),
    $$values (null::timestamptz, null::timestamptz, null::bigint[], true)$$, 'and it is lost'
);
select is((select e.lost from queue_extend(gen_random_uuid()) e), true, 'so is what never was');
select throws_ok(format($$select queue_extend(%L, '0')$$, :'lease_id'), 'TG010', null, 'for a positive time');

-- alone or in a crowd, whoever was extended is charged as ever
select queue_purge('q', 'discard');
select queue_ack(lease_id) from lease;
select queue_send('q', '"alone"');
select t.clock_moves('1 second');
select lease_id from queue_claim('q') \gset
select queue_extend(:'lease_id', '90 seconds');
select t.clock_moves('80 seconds');
select is((select count(*) from queue_claim('q')), 0::bigint, 'an extended lease is not taken back');
select t.clock_moves('20 seconds');
select count(*) from queue_claim('q');
select is((select attempts::int from scheduled), 1, 'but when that has passed, and charged when alone');
select is(t.total('q', 'expired'), 2::bigint, 'counted');
select * from finish();
