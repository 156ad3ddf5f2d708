-- R82
select plan(17);
select t.clock_stands();
select run_open(r) from unnest(array['done', 'open', 'late']) r;
select guard_claim('s', k, 'w', '5 minutes', k) from unnest(array['done', 'open', 'unknown', 'late']) k;
select guard_claim('s', 'plain', 'w'), guard_claim('s', 'renewed', 'w', '5 minutes', 'done'), guard_claim('s', 'released', 'w', '5 minutes', 'done');
select guard_finish('s', 'finished', 'w') from guard_claim('s', 'finished', 'w', '5 minutes', 'done');
select guard_release('s', 'released', 'w');
select run_finish('done', 'completed');
create function pg_temp.held() returns text language sql
as $$ select string_agg(g.key, ' ' order by g.key) from guard g where g.state = 'held' $$;
select t.clock_moves('59 minutes');
select is((select guards from recovery_sweep()), 0, 'nobody is hurried');
select guard_renew('s', 'renewed', 'w', '1 hour');
select t.clock_moves('2 minutes');
-- then those go whose run has ended, and whose lease has run out
select is((select guards from recovery_sweep()), 1, 'an orphan is found');
select is(pg_temp.held(), 'late open plain renewed unknown', 'one whose run is open or unknown, or who is alive, stays');
select is((select (outcome, is_repeat)::text from guard_claim('s', 'done', 'another')), '(done,f)', 'it is a tombstone');
select is((select guards from recovery_sweep()), 0, 'once');
-- its owner was only slow
select is(guard_finish('s', 'done', 'another', '1'), 'lost', 'which is nobody else''s to finish');
select is(guard_finish('s', 'done', 'w', '"paid"'), 'done', 'its owner still finishes it');
select is(guard_finish('s', 'done', 'w', '"again"'), 'done', 'a repeat is done');
select is((select result from guard_claim('s', 'done', 'another')), '"paid"', 'and what it did is not lost');
-- an open run that ends later
select run_finish('late', 'error');
select t.clock_moves('61 minutes');
select is((select guards from recovery_sweep()), 1, 'ends its own');
select is((select guard_finish('s', 'renewed', 'w')), 'done', 'a holder that was alive has finished');
-- many runs that ended at one instant, a few at a time
select run_open('all');
select count(run_open('c' || n, p_parent => 'all')) from generate_series(1, 30) n;
select count(*) from generate_series(1, 30) n, guard_claim('s', 'c' || n, 'w', '5 minutes', 'c' || n);
select run_finish('all', 'error');
select t.clock_moves('2 hours');
select is((select guards from recovery_sweep(7)), 30, 'those that ended together go together');
-- more of them than one pass looks at
select run_open('n' || n) from generate_series(1, 5) n;
select count(*) from generate_series(1, 5) n, guard_claim('s', 'n' || n, 'w', '5 minutes', 'n' || n);
do $$ begin for n in 1 .. 5 loop perform tidegate.run_finish('n' || n, 'completed'), t.clock_moves('1 second'); end loop; end $$;
select t.clock_moves('2 hours');
select results_eq(
    $$select guards, has_more from recovery_sweep(2)$$, $$values (2, true)$$, 'a pass says that there are more'
) from generate_series(1, 2);
select results_eq($$select guards, has_more from recovery_sweep(2)$$, $$values (1, false)$$, 'until there are none');
select results_eq($$select guards, has_more from recovery_sweep(2)$$, $$values (0, false)$$, 'as long as it lasts');
select is(pg_temp.held(), 'open plain unknown', 'and what nobody may judge stays');
select * from finish();
