-- R110
select plan(7);
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


-- R75: a barrier that the cancel did not see, as it was opened at that moment, takes no arrival either
select epoch from barrier_open('unseen', 2, p_run_id => 'unseen') \gset
select run_cancel('elsewhere');
insert into run (run_id, state, opened_at, finished_at) values ('unseen', 'stopped', clock_now(), clock_now());
select is(barrier_arrive('unseen', :epoch, 1), 'closed', 'an arrival for a stopped run is told so, without an error');
select is(barrier_fail('unseen', :epoch, 2, 'late'), 'closed', 'and so is a failure');
select is((select outstanding from barrier_status('unseen')), 2, 'nothing is counted');
select * from finish();
