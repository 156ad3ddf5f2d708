-- R26, R27
select plan(15);
select t.clock_stands();
select queue_create('work', '{"max_attempts": 2, "backoff_base": "10 seconds", "jitter": 0}');
select count(*) from queue_send_many('work', array['1', '2', '3', '4']::jsonb[]);
select lease_id, array_agg(message_id order by message_id) as ids from queue_claim('work', 4) group by 1 \gset

select is(
    (select n::text from queue_nack(:'lease_id', (:'ids'::bigint[])[1:1], 'smtp 451') as n), '(0,1,0,f)',
    'one is failed by its id'
);
select results_eq(
    $$select due_at - clock_now(), attempts::int, errors -> 0 ->> 'error' from scheduled$$,
    $$values ('10 seconds'::interval, 1, 'smtp 451')$$,
    'it waits its backoff, charged'
);
select is(
    (select n::text from queue_nack(:'lease_id', (:'ids'::bigint[])[2:2], 'no such user', false) as n), '(0,0,1,f)',
    'one that never will succeed dies at once'
);
select is((select reason from dead_letter), 'not_retryable', 'and says so');
select is(
    (select n::text from queue_release(:'lease_id', (:'ids'::bigint[])[3:3], '1 minute') as n), '(0,1,0,f)',
    'one is given back'
);
select results_eq(
    $$select due_at - clock_now() from scheduled where attempts = 0 and errors is null$$,
    $$values ('1 minute'::interval)$$,
    'uncharged, after the delay it was given'
);
select is(
    (select n::text from queue_settle(:'lease_id', (:'ids'::bigint[])[4:4]) as n), '(1,0,0,f)', 'the last one is done'
);
select is((select n.lost from queue_nack(:'lease_id') as n), true, 'then the lease is gone: for a nack');
select is((select n.lost from queue_release(:'lease_id') as n), true, 'for a release');
select is((select n.lost from queue_settle(:'lease_id', null) as n), true, 'for a settlement');

-- without ids: all that is left
select t.clock_moves('2 minutes');
select lease_id from queue_claim('work', 4) limit 1 \gset
select is((select n::text from queue_nack(:'lease_id', p_retry_in => '0') as n), '(0,1,1,f)', 'all that is left is failed');
select is(t.places('work'), 'ready=1 dead=2', 'one at its last attempt, one at its first');
select lease_id, attempt from queue_claim('work') \gset
select is((select n.retried from queue_release(:'lease_id') as n), 1, 'all that is left is given back');

select throws_ok(
    format($$select queue_nack(%L, p_retry_in => '-1 s')$$, :'lease_id'), 'TG010', null, 'a delay is not negative'
);
select throws_ok(
    format($$select queue_release(%L, p_retry_in => null)$$, :'lease_id'), 'TG010', null, 'nor missing'
);

select * from finish();
