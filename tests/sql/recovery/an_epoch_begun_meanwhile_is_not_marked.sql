-- R93. Of origin r: "re-armed not marked": opened anew after recovery has read the row; the new epoch has expired as well.
select plan(4);
select t.clock_stands();
select queue_create('failures');
select run_open('r');
select epoch as former from barrier_open('b', 1, p_failure_queue => 'failures', p_run_id => 'r', p_expires_in => '1 minute') \gset
select epoch as new from barrier_open('b', 1, p_failure_queue => 'failures', p_run_id => 'r', p_expires_in => '1 minute') \gset
select t.clock_moves('2 minutes');
select is((select did from _barrier_recover('b', :former, null)), 'kept', 'it goes on with the epoch it has read');
select is((select (b.state, b.epoch = :new, b.look_count, r.state)::text from barrier b, run r), '(open,t,0,open)', 'and leaves the new one');
select _barrier_postpone('b', :former, null);
select is((select look_count from barrier), 0, 'nor does its failure put off the new one');
select is((select failed from recovery_sweep()), 1, 'which is recovered in its turn');
select * from finish();
