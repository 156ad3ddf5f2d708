-- R144
select plan(32);
create function pg_temp.says(p_check text) returns text language sql
as $$ select d.status from doctor() d where d.check_name = p_check $$;
create function pg_temp.saw(p_check text) returns text language sql
as $$ select d.seen from doctor() d where d.check_name = p_check $$;
select t.clock_stands();
select queue_create('q', '{"lease": "1 minute"}');
select topic_create('t');
-- given an installation of which somebody takes care
select maintenance_start(d.job) from maintenance_due() d;
select metrics_snapshot();
select is_empty(
    $$select * from doctor() d where d.status <> 'ok' and d.check_name not in ('settings', 'autovacuum', 'horizon', 'locks')$$,
    'nothing is wrong'
);
select is((select count(*) from doctor() d where d.seen is null or d.seen = ''), 0::bigint, 'every check says what it saw');
-- when nobody takes care of it any more
select t.clock_moves('2 minutes');
select is(pg_temp.says('maintenance'), 'fail', 'no upkeep');
select t.clock_moves('5 minutes');
select is(pg_temp.says('snapshot'), 'warn', 'an old snapshot');
select leader_acquire('maintain', 'somebody');
select matches(pg_temp.says('leader') || ' ' || pg_temp.saw('leader'), '^fail recovery started 00:07:00 ago; somebody has epoch 1$', 'no recovery');
select maintenance_configure('recovery', p_paused => true);
select is(pg_temp.says('leader'), 'warn', 'a paused one is another thing');
select maintenance_configure('recovery', p_paused => false, p_every => '10 minutes');
select is(pg_temp.says('leader'), 'ok', 'and so is one that is to come later');
-- messages wait, and nobody comes
select metrics_snapshot();
select queue_send('q', '{}');
select outbox_put('t', '{}');
select metrics_snapshot();
select t.clock_moves('2 minutes');
select is(pg_temp.says('queues'), 'fail', 'a queue without worker');
select is(pg_temp.says('topics'), 'fail', 'a topic without relay');
select matches(pg_temp.saw('topics'), 'no route', 'which has no route');
select outbox_route('t', 'q');
select matches(pg_temp.saw('topics'), 'not swept', 'or is not swept');
select queue_pause('q');
select is(pg_temp.says('queues') || ' ' || pg_temp.says('paused'), 'ok warn', 'a paused queue is another thing');
select queue_resume('q');
-- a lease that nobody takes back
select count(*) from queue_claim('q', 1, '1 minute');
select t.clock_moves('2 minutes');
select is(pg_temp.says('expired_leases'), 'fail', 'an expired lease');
select maintenance_tick();
select is(pg_temp.says('expired_leases'), 'ok', 'is taken back by a tick');
-- a delayed message that nobody moves
select queue_send('q', '{}', p_run_at => clock_now() + interval '1 second');
select t.clock_moves('2 minutes');
select is(pg_temp.says('overdue'), 'fail', 'due, and not ready');
select maintenance_tick();
-- failures
select t.clock_moves('16 minutes');
select metrics_snapshot();
select queue_ack(lease_id) from queue_claim('q', 1);
select is(pg_temp.says('partial_failure'), 'ok', 'success is no failure');
select queue_nack(lease_id, null, 'smtp 550', false) from queue_claim('q', 1);
select is(pg_temp.says('partial_failure'), 'warn', 'some fail');
select is(pg_temp.says('dead_letters'), 'warn', 'and are dead letters');
select matches(pg_temp.saw('dead_letters'), 'queue q: 1', 'counted by channel');
select t.clock_moves('16 minutes');
select metrics_snapshot();
select queue_send('q', '{}');
select queue_nack(lease_id, null, 'smtp 550', false) from queue_claim('q', 1);
select is(pg_temp.says('partial_failure'), 'fail', 'all fail');
-- what is released again and again was never handed over
select metrics_snapshot();
select t.clock_moves('16 minutes');
select metrics_snapshot();
select queue_send('q', '{}');
select queue_release(lease_id) from queue_claim('q', 1);
select is(pg_temp.says('transport') || ' ' || pg_temp.says('partial_failure'), 'fail ok', 'transport is down, and nothing failed');
-- upkeep that fails
select maintenance_finish('cleanup', 'no room');
select is(pg_temp.says('upkeep'), 'warn', 'a job failed');
select maintenance_finish('cleanup', 'no room') from generate_series(1, 2);
select is(pg_temp.says('upkeep'), 'fail', 'again and again');
select matches(pg_temp.saw('upkeep'), 'cleanup failed 3 time\(s\) in a row: no room', 'with its error');
-- barriers and guards
select barrier_open('b', 1, p_expires_in => '1 hour');
select guard_claim('s', 'k', 'me', '1 minute');
select is(pg_temp.says('barriers') || ' ' || pg_temp.says('orphans'), 'ok ok', 'what is in time is well');
select t.clock_moves('2 hours');
select is(pg_temp.says('barriers') || ' ' || pg_temp.says('orphans'), 'fail warn', 'a barrier that strands, a guard whose owner died');
-- a sequence that was set back
select maintenance_tick();
select setval('position_seq', 1);
select is(pg_temp.says('sequence'), 'fail', 'a sequence behind');
-- a message below the floor
select t.clock_moves('1 minute');
select maintenance_tick();
select queue_send('q', '{}');
update floor set floors = array_fill((select last_value from position_seq), array[10])
where channel_id = (select channel_id from channel where name = 'q');
select is(pg_temp.says('stranded'), 'fail', 'below the floor');
select stranded_replaced > 0 from cleanup_sweep();
select is(pg_temp.says('stranded'), 'warn', 'put back, and not forgotten');
-- a handler that is gone
create function public.f(jsonb) returns void language sql set search_path = public, pg_temp as '';
select topic_create('h');
select outbox_route('h', p_handler => 'public.f');
select is(pg_temp.says('handlers'), 'ok', 'a handler that is there');
drop function public.f(jsonb);
select is(pg_temp.says('handlers'), 'fail', 'or not');
-- a check that cannot be made says so, and the others go on
alter table tidegate.dead_letter rename to dead_letter_away;
select is(pg_temp.says('dead_letters') || ' ' || pg_temp.says('orphans'), 'fail warn', 'what cannot be looked at');
select * from finish();
