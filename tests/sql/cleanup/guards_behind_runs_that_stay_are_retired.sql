-- a run that must stay keeps no guard of another from becoming a tombstone, nor that run from going
select plan(4);
select t.clock_stands();
select queue_create('q');
select run_open('stays'), run_open('goes');
select queue_send('q', '1', p_run_id => 'stays');
select guard_claim('s', 'k', 'o', '1 minute', p_run_id => 'goes');
select run_finish('stays', 'completed');
select t.clock_moves('1 second');
select run_finish('goes', 'completed');
-- recovery has passed by while the guard was alive
select recovery_sweep();
select t.clock_moves('31 days');
select is((select runs_removed from cleanup_sweep(1)), 1, 'the second goes');
select is((select array_agg(run_id) from run), array['stays'], 'the first stays');
-- nor does a guard that is alive
select run_open('lives'), run_open('orphan');
select guard_claim('s', 'alive', 'o', '10 years', 'lives'), guard_claim('s', 'orphan', 'o', '40 days', 'orphan');
select run_finish('lives', 'completed');
select t.clock_moves('1 second');
select run_finish('orphan', 'completed');
select t.clock_moves('2 hours');
select recovery_sweep();
select t.clock_moves('41 days');
select is((select runs_removed from cleanup_sweep(1)), 1, 'the run of the orphan goes');
select is((select array_agg(key) from guard where state = 'held'), array['alive'], 'who is alive stays');
select * from finish();
