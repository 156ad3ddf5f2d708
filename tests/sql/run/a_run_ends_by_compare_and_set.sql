-- R100, R101, R111, R115
select plan(32);
select t.clock_stands();
select is(run_open('r', p_tenant => 't1'), 'open', 'a run is opened');
select is(run_open('r'), 'open', 'a repeat is the same');
select results_eq(
    $$select run_id, state, reason, parent_id, tenant, opened_at, finished_at, open_children, waiting, dead_letters
        from run_status('r')$$,
    $$values ('r', 'open', null::text, null::text, 't1', clock_now(), null::timestamptz, 0::bigint, 0::bigint, 0::bigint)$$,
    'and shown'
);
select is_empty($$select * from run_status('nothing')$$, 'of an unknown one there is nothing to show');

-- every transition
create table public.transition as
select f.former, w.wanted, f.former || '-' || w.wanted as id
from unnest(array['open', 'completed', 'error', 'stopped']) as f (former)
cross join unnest(array['completed', 'error', 'stopped']) as w (wanted);
select run_open(id) from public.transition;
select run_finish(id, former, 'first') from public.transition where former <> 'open';
select results_eq(
    $$select former, wanted, f.outcome, f.state
        from public.transition, run_finish(id, wanted, 'second') f order by former, wanted$$,
    $$values
        ('completed', 'completed', 'unchanged', 'completed'),
        ('completed', 'error', 'refused', 'completed'),
        ('completed', 'stopped', 'refused', 'completed'),
        ('error', 'completed', 'changed', 'completed'),
        ('error', 'error', 'unchanged', 'error'),
        ('error', 'stopped', 'changed', 'stopped'),
        ('open', 'completed', 'changed', 'completed'),
        ('open', 'error', 'changed', 'error'),
        ('open', 'stopped', 'changed', 'stopped'),
        ('stopped', 'completed', 'refused', 'stopped'),
        ('stopped', 'error', 'refused', 'stopped'),
        ('stopped', 'stopped', 'unchanged', 'stopped')$$,
    'completed and stopped are final, an error may become either, the same again is none'
);
select results_eq(
    $$select distinct t.former = s.state, s.reason from public.transition t, run_status(t.id) s order by 1, 2$$,
    $$values (false, 'second'), (true, 'first')$$, 'the reason is that of the state'
);
drop table public.transition;
select results_eq(
    $$select * from run_finish('unknown', 'error')$$, $$values ('unknown', null::text)$$, 'what nobody opened does not end'
);
select is_empty($$select * from run_status('unknown')$$, 'nor begin');

-- children
select run_open('p');
select run_open('c1', 'p');
select run_open('c2', 'p');
select run_open('g1', 'c1');
select run_open('g2', 'c2');
select run_finish('c2', 'completed');
select is((select open_children from run_status('p')), 1::bigint, 'children that are open are counted');
select is((select outcome from run_finish('p', 'error', 'broken')), 'changed', 'when the parent fails');
select results_eq(
    $$select run_id collate "default", state, reason from run where run_id in ('p', 'c1', 'c2', 'g1', 'g2') order by 1$$,
    $$values ('c1', 'error', 'failed with p'), ('c2', 'completed', null), ('g1', 'error', 'failed with c1'),
        ('g2', 'open', null), ('p', 'error', 'broken')$$,
    'its open children fail with it, and theirs; those of one that completed are their own'
);
select is(run_open('c3', 'p'), 'error', 'a child of it is opened no more');
select is((select reason from run_status('c3')), 'failed with p', 'it fails at once');
select is((select outcome from run_finish('c1', 'completed')), 'changed', 'a child may complete after all');
select run_open('c4', 'p');
select is((select runs from run_cancel('p', 'enough')), 3, 'a cancel stops what is open or in error');
select results_eq(
    $$select run_id collate "default", state, reason from run where run_id in ('p', 'c1', 'c3', 'c4', 'g1') order by 1$$,
    $$values ('c1', 'completed', null), ('c3', 'stopped', 'stopped with p'), ('c4', 'stopped', 'stopped with p'),
        ('g1', 'error', 'failed with c1'), ('p', 'stopped', 'enough')$$,
    'but nothing that completed, or is below it'
);
select is(run_open('c5', 'p'), 'stopped', 'a child of a stopped run is stopped');
select run_open('ended');
select run_finish('ended', 'completed');
select is(run_open('after', 'ended'), 'open', 'one that completed may have children still');

-- cancel
select results_eq(
    $$select * from run_cancel('p', 'again')$$, $$values ('cancelled', 0, 0::bigint)$$, 'a repeat succeeds, and does nothing'
);
select is((select reason from run_status('p')), 'enough', 'the first reason stays');
select results_eq(
    $$select * from run_cancel('never opened', 'not wanted')$$, $$values ('cancelled', 1, 0::bigint)$$,
    'a run is cancelled before it is opened'
);
select is(run_open('never opened', 'ended'), 'stopped', 'and stopped when it comes');
select throws_ok(
    $$select run_cancel('ended')$$, 'TG091', null, 'what has completed is cancelled no more'
);
select is((select state from run_status('ended')), 'completed', 'it stays so');

select throws_ok($$select run_open('x', 'nobody')$$, 'TG092', null, 'a parent is opened first');
select throws_ok($$select run_open('x', 'x')$$, 'TG010', null, 'and somebody else');
select throws_ok($$select run_open('r', 'ended')$$, 'TG010', null, 'a run changes its parent never');
select throws_ok($$select run_open('')$$, 'TG010', null, 'a run has a name');
select throws_ok($$select run_cancel(repeat('x', 513))$$, 'TG010', null, 'of a bounded length');
select throws_ok($$select run_finish('r', 'open')$$, 'TG010', null, 'open is no end');
begin;
set transaction isolation level repeatable read;
select throws_ok($$select run_cancel('r')$$, 'TG030', null, 'an old snapshot would miss children');
rollback;
begin;
set transaction isolation level repeatable read;
select throws_ok($$select run_finish('r', 'error')$$, 'TG030', null, 'whatever the end');
rollback;
select * from finish();
