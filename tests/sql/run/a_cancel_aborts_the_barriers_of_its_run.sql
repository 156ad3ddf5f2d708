-- R110
select plan(4);
select t.clock_stands();
select queue_create('q');
select run_open('parent'), run_open('child', p_parent => 'parent'), run_open('other');
select epoch as child from barrier_open('of the child', 2, 'q', p_run_id => 'child') \gset
select epoch as other from barrier_open('of another', 1, 'q', p_run_id => 'other') \gset

-- when the parent is cancelled
select is((select outcome from run_cancel('parent', 'enough')), 'cancelled', 'the run is cancelled');

-- then the barrier of its child takes no arrival any more, and that of another run does
select is(barrier_arrive('of the child', :child, 1), 'closed', 'a barrier of a child run is closed');
select is((select state from barrier_status('of the child')), 'aborted', 'as aborted');
select is(barrier_arrive('of another', :other, 1), 'fired', 'one of another run goes on');

select * from finish();
