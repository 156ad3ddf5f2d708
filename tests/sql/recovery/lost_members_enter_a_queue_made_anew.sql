-- R98: a queue that was dropped and created again knows no priorities: members that are sent again are found there.
select plan(3);
select t.clock_stands();
select queue_create('work'), queue_create('q');
select barrier_send('b', 'work', array['1', '2']::jsonb[], 'q', p_priority => 5);
delete from ready;
select queue_drop('work');
select queue_create('work');
select t.clock_moves('2.6 hours');
select is((select (resent, errors)::text from recovery_sweep()), '(2,{})', 'they are sent again');
select is((select string_agg(priority::text, ' ') from ready), '5 5', 'with their priority');
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('work', 10)), 2::bigint, 'and handed out');
select * from finish();
