-- a run that must stay keeps no guard of another from becoming a tombstone, nor that run from going
select plan(2);
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
select * from finish();
