-- R95, R96. Of origin r: "one bad row isolated", "unsuccessful write keeps handle", "all-skipped not systemic".
select plan(13);
select t.clock_stands();
select queue_create('q'), queue_create('failures');
create function pg_temp.swept(p_limit integer default 100) returns text language sql
as $$ select format('%s failed, %s kept, %s errors, more %s, systemic %s', s.failed, s.kept, (select count(*) from jsonb_object_keys(s.errors)), s.has_more, s.systemic) from recovery_sweep(p_limit) s $$;
-- given a hundred stranded barriers, and one, the oldest, whose run cannot be written
select run_open('bad');
select barrier_open('bad', 1, 'q', p_failure_queue => 'failures', p_run_id => 'bad');
select t.clock_moves('1 second');
select run_open('r' || n) from generate_series(1, 100) n;
select count(barrier_open('b' || n, 1, 'q', p_failure_queue => 'failures', p_run_id => 'r' || n)) from generate_series(1, 100) n;
create function pg_temp.refuse() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$;
create trigger refuse before update on tidegate.run for each row when (new.run_id = 'bad') execute function pg_temp.refuse();
select t.clock_moves('3 hours');
-- then the hundred are recovered in one pass
select is(pg_temp.swept(), '100 failed, 1 kept, 1 errors, more f, systemic f', 'all but one');
select is((select count(*) from run where state = 'error'), 100::bigint, 'their runs have failed');
select is((select (r.state || ' ' || b.state) from run r, barrier b where r.run_id = 'bad' and b.name = 'bad'), 'open open', 'the bad one is as it was');
select is(
    (select message from incident where routine = 'recovery_sweep'), 'barrier bad: not this one', 'and it was noted'
);
-- it does not head the next passes
select is(pg_temp.swept(), '0 failed, 0 kept, 0 errors, more f, systemic f', 'it comes back later');
select t.clock_moves('1 minute');
select is(pg_temp.swept(), '0 failed, 1 kept, 1 errors, more f, systemic t', 'failed, and nothing recovered: systemic');
select is((select look_at - clock_now() from barrier where name = 'bad'), '2 minutes'::interval, 'later each time');
select t.clock_moves('6 hours');
select count(*) from generate_series(1, 10), recovery_sweep() s, t.clock_moves('33 minutes');
select ok((select look_at - clock_now() <= '32 minutes' from barrier where name = 'bad'), 'but not more than half an hour');
drop trigger refuse on tidegate.run;
select t.clock_moves('1 hour');
select is(pg_temp.swept(), '1 failed, 0 kept, 0 errors, more f, systemic f', 'until it can be recovered');

-- all skipped is no error: alive, or in somebody's hands
select epoch from barrier_open('alive', 2, 'q') \gset
select t.clock_moves('2 hours');
select barrier_arrive('alive', :epoch, 1);
select t.clock_moves('1 hour');
select is(pg_temp.swept(), '0 failed, 1 kept, 0 errors, more f, systemic f', 'what is alive is no failure');

-- bounded
select count(barrier_open('c' || n, 1, 'q')) from generate_series(1, 7) n;
select t.clock_moves('3 hours');
select is(pg_temp.swept(5), '5 failed, 0 kept, 0 errors, more t, systemic f', 'a bound');
select is(pg_temp.swept(5), '3 failed, 0 kept, 0 errors, more f, systemic f', 'and the rest');
select is((select count(*) from barrier where state = 'open'), 0::bigint, 'nothing is left');
select * from finish();
