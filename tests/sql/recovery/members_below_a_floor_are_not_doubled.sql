-- R98: members that stand below a floor, as after a sequence was set back, are put back, and not taken for lost.
select plan(4);
select t.clock_stands();
select queue_create('work'), queue_create('q');
select epoch from barrier_send('b', 'work', array['1', '2']::jsonb[], 'q') \gset
update floor set floors = array_fill(nextval('position_seq'), array[10]);
select is((select count(*) from queue_claim('work')), 0::bigint, 'given members that no claim finds');
-- when the barrier has stalled
select t.clock_moves('2.6 hours');
select is((select (resent, errors)::text from recovery_sweep()), '(0,{})', 'none is sent again');
select is((select string_agg(member::text, ' ' order by member) from ready where epoch = :epoch), '1 2', 'each is there once');
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('work', 10)), 2::bigint, 'and is handed out');
select * from finish();
