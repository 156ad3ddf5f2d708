-- R91, R95, R96, R97, R101. Of origin r: "marks error and cleans only expired", "remaining 0 message", "terminal skip",
-- "noop", "status none".
select plan(22);
select t.clock_stands();
select queue_create('q');
select queue_create('failures');
create function pg_temp.swept(out did text) language sql
as $$ select format('%s seen, %s failed, %s reclaimed, %s refired, %s kept, %s', s.barriers, s.failed, s.reclaimed, s.refired, s.kept, s.errors) from recovery_sweep() s $$;
create function pg_temp.runs() returns text language sql
as $$ select string_agg(run_id || ' ' || state, ', ' order by run_id) from run $$;

-- noop: nothing is due
select is(pg_temp.swept(), '0 seen, 0 failed, 0 reclaimed, 0 refired, 0 kept, {}', 'nothing to do');
select ok(not (select s.systemic or s.has_more from recovery_sweep() s), 'nor is that an error');

-- given barriers of runs in every state, of a run that nobody opened, and of none
select run_open('open'), run_open('done'), run_open('broken'), run_open('fresh');
select run_open('child', p_parent => 'open');
select barrier_open('of ' || r, 3, 'q', '"go"', p_failure_queue => 'failures', p_failure_payload => to_jsonb(r), p_run_id => r)
from unnest(array['open', 'done', 'broken', 'unknown']) r;
select barrier_open('none', 2, 'q', p_failure_queue => 'failures');
select run_finish('done', 'completed'), run_finish('broken', 'error');
select barrier_arrive('of open', (select epoch from barrier where name = 'of open'), 2, '"two"');
select epoch as unsealed from barrier_open('unsealed', 1, 'q', p_failure_queue => 'failures', p_sealed => false) \gset
select barrier_arrive('unsealed', :unsealed, 1);
select t.clock_moves('1 hour');
select epoch as fresh from barrier_open('of fresh', 1, 'q', p_run_id => 'fresh', p_failure_queue => 'failures') \gset
select t.clock_moves('1.6 hours');

-- when they have stalled
select is(pg_temp.swept(), '6 seen, 5 failed, 1 reclaimed, 0 refired, 0 kept, {}', 'those that are stranded are recovered');
-- then runs that were open are in error, with their children, and no other
select is(pg_temp.runs(), 'broken error, child error, done completed, fresh open, open error', 'a run that completed stays completed');
select is((select reason from run where run_id = 'open'), 'barrier of open: incomplete: 2 of 3 members outstanding', 'and says why');
select is(
    (select string_agg(name || ' ' || state || ' ' || outcome, ', ' order by name) from barrier where state <> 'open'),
    'none aborted expired, of broken aborted expired, of done resolved completed, of open aborted expired, of unknown aborted expired, unsealed aborted expired',
    'barriers are closed'
);
-- and each tells its failure queue, but that of the run that has completed
select is(
    (select string_agg(format('%s %s %s', payload ->> 'barrier', payload ->> 'outcome', payload ->> 'reason'), E'\n' order by payload ->> 'barrier') from queue_peek('failures', 20)),
    E'none expired incomplete: 2 of 2 members outstanding\nof broken expired incomplete: 3 of 3 members outstanding\nof open expired incomplete: 2 of 3 members outstanding\nof unknown expired incomplete: 3 of 3 members outstanding\nunsealed expired never sealed: all of its 1 members had arrived',
    'the failure queue hears what was outstanding: some, or none'
);
select is(t.places('q'), '', 'no callback is sent');
-- and it is done once
select is(pg_temp.swept(), '0 seen, 0 failed, 0 reclaimed, 0 refired, 0 kept, {}', 'a repeat finds nothing');
select is(barrier_arrive('of open', (select epoch from barrier where name = 'of open'), 1), 'closed', 'who comes later is told');

-- progress puts it off
select epoch as slow from barrier_open('slow', 3, 'q', p_failure_queue => 'failures') \gset
select t.clock_moves('2 hours');
select barrier_arrive('slow', :slow, 1);
select recovery_sweep();
select t.clock_moves('31 minutes');
select is(pg_temp.swept(), '1 seen, 0 failed, 0 reclaimed, 0 refired, 1 kept, {}', 'one that has gone on meanwhile is kept');
select is((select look_at from barrier where name = 'slow'), (select stalls_at from barrier_status('slow')), 'and looked at when it would stall');
select is((select look_count from barrier where name = 'slow'), 0, 'nothing is held against it');
-- but not beyond its deadline
select barrier_arrive('slow', :slow, 2);
select t.clock_moves('4 hours');
select is(pg_temp.swept(), '1 seen, 1 failed, 0 reclaimed, 0 refired, 0 kept, {}', 'past expires_at progress does not help');
select is((select state from run where run_id = 'fresh'), 'error', 'that of the fresh one has failed by now');

-- a stopped run: opened beside the cancel, which did not see it
select barrier_open('of gone', 1, 'q', p_run_id => 'gone', p_failure_queue => 'failures');
insert into run (run_id, state, opened_at, finished_at) values ('gone', 'stopped', clock_now(), clock_now());
select t.clock_moves('3 hours');
select is(pg_temp.swept(), '1 seen, 0 failed, 1 reclaimed, 0 refired, 0 kept, {}', 'that of a stopped run is closed');
select is((select state from run where run_id = 'gone'), 'stopped', 'and the run stays stopped');
-- remaining 0, sealed and silent cannot be; made by hand
select epoch as silent from barrier_open('silent', 1, 'q', '"go"') \gset
update barrier_slot set pending = 0 where epoch = :silent;
select t.clock_moves('3 hours');
select is(pg_temp.swept(), '1 seen, 0 failed, 0 reclaimed, 1 refired, 0 kept, {}', 'a callback that was never sent is sent');
select is((select payload ->> 'payload' from queue_peek('q')), 'go', 'it is there');

select throws_ok($$select recovery_sweep(0)$$, 'TG010', null, 'a limit of none is refused');
begin isolation level repeatable read;
select throws_ok($$select recovery_sweep()$$, 'TG030', null, 'an old snapshot is refused');
rollback;
select throws_ok($$select recovery_sweep(p_leader_epoch => 1)$$, 'TG090', null, 'an epoch that nobody leads is refused');
select * from finish();
