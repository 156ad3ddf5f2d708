-- R98: members that stand below a floor or a mark of deadlines, as after a sequence or the clock was set back, are put
-- back, and not taken for lost.
select plan(5);
select t.clock_stands();
select queue_create('work', '{"lease": "1 hour", "backoff_base": "0"}'), queue_create('q');
select epoch from barrier_send('b', 'work', array['1', '2', '3', '4']::jsonb[], 'q') \gset
select t.clock_moves('1 second');
select queue_release(lease_id, p_retry_in => '1 hour') from queue_claim('work');
select count(*) from queue_claim('work');
update floor set floors = array_fill(nextval('position_seq'), array[10]), hints = array_fill(nextval('position_seq'), array[10]), scheduled_from = 'infinity', lease_from = 'infinity';
select is((select count(*) from queue_claim('work')), 0::bigint, 'given members that no claim finds');
-- when the barrier has stalled
select t.clock_moves('2.6 hours');
select is((select (resent, errors)::text from recovery_sweep()), '(0,{})', 'none is sent again');
select is((select string_agg(member::text, ' ' order by member) from ready where epoch = :epoch), '1 2 3 4', 'each is there once');
select is(t.total('work', 'stranded'), 4::bigint, 'and counted');
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('work', 10)), 4::bigint, 'and is handed out');
select * from finish();
