-- R98
select plan(24);
select t.clock_stands();
select queue_create('work'), queue_create('q'), queue_create('failures');
create function pg_temp.swept(out did text) language sql
as $$ select format('%s resent, %s failed, %s kept, %s', s.resent, s.failed, s.kept, s.errors) from recovery_sweep() s $$;
-- given ten members: one has arrived, one is leased, one waits for a retry, one is delayed; of the rest three are nowhere, one of them large
select epoch from barrier_send(
    'b', 'work', array(select case when n = 9 then to_jsonb(repeat('large ', 1000)) else to_jsonb(n) end from generate_series(1, 10) n),
    'q', '"go"', p_failure_queue => 'failures', p_run_id => 'r', p_tenant => 'acme', p_headers => '{"a": 1}', p_priority => 3, p_max_attempts => 7
) \gset
select run_open('r');
select lease_id as done from queue_claim('work') \gset
select queue_ack(:'done', p_result => '"one"');
select lease_id as held from queue_claim('work', p_lease => '1 hour') \gset
select lease_id as retry from queue_claim('work') \gset
select queue_nack(:'retry', p_error => 'later', p_retry_in => '5 hours');
create temporary table before as
select member, message_id, _event_id(event_prefix, message_id, enqueued_at) as event_id
from ready, installation where member in (7, 8, 9);
delete from ready where member in (7, 8, 9);
select t.clock_moves('50 minutes');
select queue_extend(:'held', '1 hour');
select t.clock_moves('110 minutes');
-- when it has stalled
select is(pg_temp.swept(), '3 resent, 0 failed, 0 kept, {}', 'those that are nowhere are sent again');
select results_eq(
    'select member, message_id, event_id from ready where member in (7, 8, 9) order by 1', 'select * from before order by 1',
    'under their own ids'
);
select is((select count(distinct message_id) from (select message_id from ready where epoch = :epoch union all select message_id from scheduled where epoch = :epoch) m), 9::bigint, 'each once, with the lease that came back');
select is((select count(*) from ready where epoch = :epoch) + (select count(*) from scheduled where epoch = :epoch), 9::bigint, 'and no other twice');
select is(
    (select (payload, headers, priority, run_id, tenant, max_attempts, attempts, barrier, epoch = :epoch)::text from ready where member = 7),
    '(7,"{""a"": 1}",3,r,acme,7,0,b,t)', 'as they were'
);
select is((select count(*) from body), 1::bigint, 'a large payload is not written twice');
select is((select state from run where run_id = 'r'), 'open', 'the run is not failed');
select is((select look_at - clock_now() from barrier), '2.5 hours'::interval, 'they get their time');
-- then they arrive as ever
select is(
    (select string_agg(left(payload::text, 10), ',' order by member) from queue_claim('work', 20, p_lease => '1 hour') where member in (7, 8, 9)),
    '7,8,"large lar', 'they are handed out'
);
select is((select count(queue_ack(l.lease_id)) from lease l), 1::bigint, 'and settled');
select is((select count(*) from body), 0::bigint, 'nothing of the large one is left');
select is((select outstanding from barrier_status('b')), 2, 'two wait for their retries');
-- but lost a second time, the run fails
delete from scheduled where epoch = :epoch;
select t.clock_moves('2.6 hours');
select is(pg_temp.swept(), '0 resent, 1 failed, 0 kept, {}', 'it happens once');
select is((select state from run where run_id = 'r'), 'error', 'the run fails');

-- where nothing is lost, nothing is sent
select epoch as second from barrier_send('c', 'work', array['1', '2']::jsonb[], p_failure_queue => 'failures') \gset
select t.clock_moves('2.6 hours');
select is(pg_temp.swept(), '0 resent, 1 failed, 0 kept, {}', 'members that wait are not lost');
-- nor where nothing was sent
select epoch as third from barrier_open('d', 2, p_failure_queue => 'failures') \gset
select t.clock_moves('2.6 hours');
select is(pg_temp.swept(), '0 resent, 1 failed, 0 kept, {}', 'what was never sent is not sent again');
-- a lost one whose large payload is lost too cannot be sent
select epoch as fourth from barrier_send('e', 'work', array[to_jsonb(repeat('large ', 1000)), '2']::jsonb[]) \gset
delete from ready where epoch = :fourth;
delete from body;
select t.clock_moves('2.6 hours');
select is(pg_temp.swept(), '1 resent, 0 failed, 0 kept, {}', 'the one that can be');
select is((select member from ready where epoch = :fourth), 2, 'is');
-- more than a thousand, and members of several slots
select epoch as wide from barrier_send('f', 'work', array(select to_jsonb(n) from generate_series(1, 2500) n)) \gset
delete from ready where epoch = :wide and member % 3 = 0;
select is((select count(*) from barrier_sent where epoch = :wide), 3::bigint, 'a row a thousand');
select t.clock_moves('2.6 hours');
select recovery_sweep() is null;
select is((select count(*) from ready where epoch = :wide), 2500::bigint, 'all are there again');
select is((select count(*) from ready where epoch = :wide and payload = to_jsonb(member)), 2500::bigint, 'each with its payload');
-- more lost than a look sends: the next one goes on
select epoch as many from barrier_send('g', 'work', array(select to_jsonb(n) from generate_series(1, 10001) n)) \gset
delete from ready where epoch = :many;
select t.clock_moves('2.6 hours');
select recovery_sweep() is null;
select is((select (count(*), (select resent_at is null from barrier where epoch = :many))::text from ready where epoch = :many), '(10000,t)', 'a bound');
select recovery_sweep() is null;
select is((select count(*) from ready where epoch = :many), 10001::bigint, 'the rest at the next call');
-- what was sent is forgotten with the epoch
select barrier_abort('g', :many);
select t.clock_moves('8 days');
do $$ begin for n in 1 .. 5 loop perform tidegate.cleanup_sweep(10000); end loop; end $$;
select is((select count(*) from barrier_sent where epoch = :many), 0::bigint, 'it goes with the barrier');
select * from finish();
