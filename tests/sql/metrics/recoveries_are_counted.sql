-- R134, R137
select plan(12);
select t.clock_stands();
create function pg_temp.risen(out told text) language sql
as $$
    select coalesce(string_agg(format('%s %s', coalesce(m.labels ->> 'what', m.labels ->> 'how', m.labels ->> 'routine'), m.value), ', '
        order by m.name, m.labels::text), '')
    from (select distinct * from metrics()) m
    where m.name in ('tidegate_recovered_total', 'tidegate_leases_recovered_total', 'tidegate_errors_total') and m.value > 0
$$;
select is(
    (select array_agg(distinct m.labels ->> 'what' order by m.labels ->> 'what') from metrics() m where m.name = 'tidegate_recovered_total'),
    '{asked,failed,guards,reclaimed,refired,resent}', 'what never was is 0, not absent'
);
select queue_create('work', '{"max_attempts": 3}'), queue_create('q'), queue_create('ask'), queue_create('failures');
-- given three members that are lost, a barrier that nobody arrives at, one with an expire queue, one whose run is stopped,
-- one whose callback has no queue, and a guard of a run that has ended
select epoch from barrier_send('lost', 'work', '{1, 2, 3}', 'q') \gset
delete from ready where epoch = :epoch;
select barrier_open('silent', 1, 'q', p_failure_queue => 'failures'), barrier_open('asked', 1, 'q', p_expire_queue => 'ask');
select queue_create('gone');
select epoch as fired from barrier_open('fired', 1, 'gone') \gset
select epoch as stopped from barrier_open('stopped', 1, 'gone', p_run_id => 'r') \gset
select queue_drop('gone');
select barrier_arrive('fired', :fired, 1), run_open('r'), barrier_arrive('stopped', :stopped, 1), run_cancel('r');
select run_open('over'), guard_claim('s', 'k', 'w', '5 minutes', 'over'), run_finish('over', 'completed');
select is(pg_temp.risen(), '_barrier_close 2', 'callbacks that could not be sent are errors');
select queue_create('gone');
select t.clock_moves('3 hours');
-- a pass that is undone has counted nothing
begin;
select recovery_sweep() is not null;
rollback;
select is(pg_temp.risen(), '_barrier_close 2', 'what was rolled back was not');
-- when recovery has looked at them
select is((select (resent, refired, failed, reclaimed, asked, guards, errors)::text from recovery_sweep()), '(3,1,1,1,1,1,{})', 'each is recovered in its way');
select is(
    pg_temp.risen(), '_barrier_close 2, asked 1, failed 1, guards 1, reclaimed 1, refired 1, resent 3', 'and counted: members by message'
);

-- leases: one of a single message, one of several
select queue_purge('work');
select count(*) from queue_send_many('work', '{1, 2, 3}');
select count(*) from queue_claim('work', 1, '1 second');
select count(*) from queue_claim('work', 2, '1 second');
select t.clock_moves('1 minute');
select maintenance_tick();
create function pg_temp.leases(out told text) language sql
as $$ select string_agg(format('%s %s', m.labels ->> 'how', m.value), ', ' order by m.labels ->> 'how')
      from metrics() m where m.name = 'tidegate_leases_recovered_total' and m.labels ->> 'channel' = 'work' $$;
select is(pg_temp.leases(), 'charged 1, halved 1, spared 0', 'who was alone is charged, the others come back in halves');
select is((select count(*) from outcomes o where o.outcome like '%.%'), 0::bigint, 'people see outcomes of messages');
-- and one that nobody could have settled
select count(*) from queue_claim('work', 1, '10 minutes');
update tide set outage_from = clock_now(), outage_until = clock_now() + interval '1 hour';
select t.clock_moves('2 hours');
select maintenance_tick();
select is(pg_temp.leases(), 'charged 1, halved 1, spared 1', 'nobody is charged for an outage');

-- an error that is noted once a minute is counted each time
select count(_incident_note('maintenance_tick', null, 'XX000', 'the same')) from generate_series(1, 3);
select _incident_note('somewhere_new', null, 'XX000', 'unknown');
select is((select count(*) from incident where message = 'the same'), 1::bigint, 'given an error that comes again');
select is(
    (select string_agg(format('%s %s', m.labels ->> 'routine', m.value), ', ' order by m.labels::text) from metrics() m
     where m.name = 'tidegate_errors_total' and m.value > 0), '_barrier_close 2, maintenance_tick 3, other 1', 'it is counted each time'
);
-- folding keeps them
select tallies_folded > 0 from cleanup_sweep();
select ok(pg_temp.risen() like '%resent 3%', 'and folding keeps the sums');
-- the leader
select leader_acquire('maintain', 'one', '10 seconds'), leader_acquire('of my own', 'me');
select t.clock_moves('1 minute');
select leader_acquire('maintain', 'two');
select is((select m.value from metrics() m where m.name = 'tidegate_leader_epoch'), 2::double precision, 'who leads the upkeep has an epoch');
select * from finish();
