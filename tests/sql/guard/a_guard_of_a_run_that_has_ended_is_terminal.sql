-- R79, R82, R85
select plan(14);
select t.clock_stands();
select run_open('r1');
select is((select outcome from guard_claim('step', '1', 'a', '1 minute', 'r1')), 'won', 'while the run is open a guard is won');
select guard_finish('step', '1', 'a', '"result"');
select guard_claim('step', '2', 'a', '1 minute', 'r1');
select guard_claim('step', '3', 'a', '1 minute', 'r1');
select run_finish('r1', 'error');

-- when the run has ended
select results_eq(
    $$select outcome, result from guard_claim('step', '9', 'b', '1 minute', 'r1')$$, $$values ('terminal', null::jsonb)$$,
    'nobody begins anything'
);
select results_eq($$select state, owner from guard where key = '9'$$, $$values ('done', 'b')$$, 'a tombstone stands');
select is((select is_repeat from guard_claim('step', '9', 'b', '1 minute', 'r1')), true, 'a repeat is told so');
select is((select outcome from guard_claim('step', '9', 'c', '1 minute', 'r1')), 'terminal', 'and so is anybody else');
select results_eq(
    $$select outcome, result from guard_claim('step', '1', 'b', '1 minute', 'r1')$$,
    $$values ('terminal', '"result"'::jsonb)$$, 'what was finished keeps its result'
);
select is((select outcome from guard_claim('step', '2', 'b', '1 minute', 'r1')), 'terminal', 'what somebody works on');
select results_eq(
    $$select state, owner from guard where key = '2'$$, $$values ('held', 'a')$$, 'is left to him'
);
select t.clock_moves('1 minute');
select guard_claim('step', '3', 'b', '1 minute', 'r1');
select results_eq(
    $$select state, owner from guard where key = '3'$$, $$values ('done', 'b')$$, 'until his lease has passed'
);
select is(guard_finish('step', '3', 'a'), 'lost', 'and he is told');

-- when retention took it
select t.clock_moves('8 days');
select cleanup_sweep();
select guard_claim('step', '9', 'b', '1 minute', 'r1');
select is((select count(*) from guard where key = '9'), 1::bigint, 'the tombstone is made again');

-- a callback is guarded without its run: only its own completion suppresses a later one
select guard_claim('callback', 'b1:1', 'a');
select guard_release('callback', 'b1:1', 'a');
select is((select outcome from guard_claim('callback', 'b1:1', 'b')), 'won', 'after a failure it runs again');
select guard_finish('callback', 'b1:1', 'b');
select is((select outcome from guard_claim('callback', 'b1:1', 'c')), 'done', 'after a success it does not');

select is((select outcome from guard_claim('step', '1', 'a', '1 minute', 'never opened')), 'won', 'an unknown run has not ended');
select * from finish();
