-- R100
select plan(12);
select t.clock_stands();
select run_open('a'), run_open('b', p_tenant => 't1', p_fail_on_dead_letter => true);
select t.clock_moves('1 minute');
select run_open('c', 'b');
select t.clock_moves('1 minute');
select run_open('d'), run_cancel('never opened', 'not wanted'), run_finish('d', 'completed');

select results_eq($$select run_id from run_list()$$, $$values ('c'), ('b'), ('a')$$, 'open ones, what was opened last on top');
select results_eq(
    $$select run_id, state from run_list(null)$$,
    $$values ('never opened', 'stopped'), ('d', 'completed'), ('c', 'open'), ('b', 'open'), ('a', 'open')$$, 'or all'
);
select results_eq($$select run_id from run_list('completed')$$, $$values ('d')$$, 'or those of a state');
select is_empty($$select * from run_list('error')$$, 'of which there may be none');
select results_eq(
    $$select state, reason, parent_id, tenant, fail_on_dead_letter, opened_at, finished_at from run_list(null)
        where run_id in ('b', 'c', 'never opened')$$,
    $$values
        ('stopped', 'not wanted', null::text, null::text, false, clock_now(), clock_now()),
        ('open', null, 'b', null, false, clock_now() - interval '1 minute', null),
        ('open', null, null, 't1', true, clock_now() - interval '2 minutes', null)$$,
    'each with what it is'
);

-- pages
select results_eq($$select run_id from run_list(p_limit => 2)$$, $$values ('c'), ('b')$$, 'a page');
select results_eq(
    $$select run_id from run_list(p_after_id => 'b')$$, $$values ('a')$$, 'the next goes on, also among those of one instant'
);
select results_eq($$select run_id from run_list(null, 2, 'd')$$, $$values ('c'), ('b')$$, 'across states, too');
select results_eq(
    $$select run_id from run_list(p_after_id => 'bb', p_after_at => clock_now() - interval '2 minutes')$$,
    $$values ('b'), ('a')$$, 'and where the last one is gone'
);
select throws_ok($$select run_list(p_after_id => 'gone')$$, 'TG010', null, 'which has to be said');
select throws_ok($$select run_list('running')$$, 'TG010', null, 'an unknown state is refused');
select throws_ok($$select run_list(p_limit => 0)$$, 'TG010', null, 'and a page without rows');
select * from finish();
