-- R106: the row of a stopped run outlives what it refuses
select plan(11);
select t.clock_stands();
select queue_create('q', '{"max_runtime": "80 days", "lease": "80 days"}');
select run_open(r) from unnest(array['bare', 'open', 'waits', 'leased', 'dead', 'parent', 'fan', 'guarded', 'scheduled', 'follow-up']) r;
select run_open('child', p_parent => 'parent');
select queue_send('q', '"leased"', p_run_id => 'leased');
select lease_id as held from queue_claim('q') \gset
select queue_send('q', '"keyed"', p_job_key => 'k');
select lease_id as keyed from queue_claim('q') \gset
select queue_send('q', '"follow-up"', p_job_key => 'k', p_run_id => 'follow-up');
select queue_send('q', '"dead"', p_run_id => 'dead', p_max_attempts => 1);
select queue_nack(lease_id, p_error => 'no') from queue_claim('q');
select queue_send('q', '"waits"', p_run_id => 'waits'), queue_send('q', '"later"', p_run_at => clock_now() + '90 days', p_run_id => 'scheduled');
select barrier_open('b', 1, 'q', p_run_id => 'fan', p_expires_in => '1 year', p_stall_after => '1 year');
select guard_claim('s', 'g', 'w', '70 days', 'guarded');
-- given that all but one have ended; stopped behind the back of what is to be refused
select run_finish(r, 'completed') from unnest(array['bare', 'parent', 'fan', 'guarded']) r;
update run set state = 'stopped', finished_at = clock_now() where run_id in ('waits', 'leased', 'dead', 'scheduled', 'follow-up');
create function pg_temp.runs() returns text language sql as $$ select string_agg(run_id, ' ' order by run_id) from run $$;
select t.clock_moves('29 days');
select is((select runs_removed from cleanup_sweep()), 0, 'they stay for their retention');
select is((select runs_removed from cleanup_sweep(p_run_retention => '1 day')), 1, 'as long as is said');
select is(pg_temp.runs(), 'child dead fan follow-up guarded leased open parent scheduled waits', 'and while anything of them is left');
select t.clock_moves('2 days');
select is((select runs_removed from cleanup_sweep()), 0, 'whatever their age');
-- then each goes when that has gone
select run_finish('child', 'completed');
select barrier_abort('b', epoch) from barrier;
select dead_letter_discard(array_agg(dead_letter_id), 'enough') from dead_letter where state = 'dead';
set tidegate.tick = 'on';
select is((select count(*) from queue_claim('q')), 0::bigint, 'what waits of a stopped run is still refused');
select t.clock_moves('1 second');
select count(*) from queue_claim('q');
select is((select runs_removed from cleanup_sweep()), 4, 'those of which nothing is left go');
select is(pg_temp.runs(), 'child follow-up guarded leased open scheduled', 'and no other');
select queue_ack(:'held'), queue_ack(:'keyed');
select count(*) from queue_claim('q');
select t.clock_moves('1 second');
select count(*) from queue_claim('q');
select t.clock_moves('45 days');
select is((select runs_removed from cleanup_sweep()), 4, 'those whose holders have ended, or died, go');
select is(pg_temp.runs(), 'open scheduled', 'what is to come is waited for');
select is((select state from guard), 'done', 'an orphaned guard became a tombstone');
select throws_ok($$select cleanup_sweep(p_run_retention => '0')$$, 'TG010', null, 'a retention of nothing is refused');
select * from finish();
