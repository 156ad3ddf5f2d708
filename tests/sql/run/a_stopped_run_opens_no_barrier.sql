-- R75, R110: what is opened and sent for a run that was stopped is not
select plan(6);
select queue_create('pages');
select queue_create('reports');
select run_cancel('r');
select is(b.outcome, 'cancelled', 'a barrier of members') from barrier_send('b', 'pages', array['1', '2']::jsonb[], 'reports', p_run_id => 'r') b;
select is(b.epoch, null, 'has no epoch') from barrier_send('b', 'pages', array['1', '2']::jsonb[], 'reports', p_run_id => 'r') b;
select is(b.outcome, 'cancelled', 'nor one of arrivals') from barrier_open('b', 2, 'reports', p_run_id => 'r') b;
select is((select count(*) from ready) + (select count(*) from barrier), 0::bigint, 'nothing was sent or opened');
-- nor is a former epoch of that name touched
select epoch from barrier_open('b', 1, 'reports') \gset
select barrier_open('b', 2, 'reports', p_run_id => 'r');
select is((select epoch from barrier_status('b')), :epoch::bigint, 'a former epoch stands');
select is(barrier_arrive('b', :epoch, 1), 'fired', 'and fires');
select * from finish();
