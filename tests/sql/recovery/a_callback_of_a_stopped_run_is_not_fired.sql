-- R98, R114: a callback that failed, and whose run was stopped since, is nobody's: recovery closes its barrier.
select plan(8);
select t.clock_stands();
select queue_create('q');
select run_open('r');
select epoch from barrier_open('b', 1, 'q', p_run_id => 'r') \gset
select queue_drop('q');
select is(barrier_arrive('b', :epoch, 1), 'fire_failed', 'given a callback that failed');
select dead_letter_discard(array_agg(dead_letter_id), 'not wanted') from dead_letter;
select is((select outcome from run_cancel('r')), 'cancelled', 'its run is stopped');
-- while it stands, so does the run
select t.clock_moves('31 days');
select is((select runs_removed from cleanup_sweep()), 0, 'cleanup keeps the run');
-- when there is a queue again
select queue_create('q');
select is((select (refired, reclaimed, errors)::text from recovery_sweep()), '(0,1,{})', 'the barrier is closed');
select is((select state || ', ' || reason from barrier where name = 'b'), 'aborted, its run was stopped', 'as aborted');
select is(t.places('q'), '', 'nothing entered the queue');
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('q')), 0::bigint, 'and nothing is delivered');
select is((select runs_removed from cleanup_sweep()), 1, 'then the run goes');
select * from finish();
