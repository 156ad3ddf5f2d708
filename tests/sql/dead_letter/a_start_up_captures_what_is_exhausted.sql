-- R51, R54, must hold 9: 250 messages whose last attempt ended with their workers, and one whose worker is at it
select plan(9);
select t.clock_stands();
select queue_create('work', '{"max_attempts": 2, "lease": "1 minute", "backoff_base": "0 seconds", "jitter": 0}');
select count(*) from queue_send_many('work', array(select to_jsonb(n) from generate_series(1, 251) as n));
create function pg_temp.attempt_all(p_worker text) returns bigint language sql as $$
    select count(*) from generate_series(1, 251) as n, queue_claim('work', 1, p_worker => p_worker || n)
$$;

-- given a first attempt that has failed for all of them, and a last one under way, each alone in its lease
select t.clock_moves('1 second');
select is(pg_temp.attempt_all('w'), 251::bigint, 'given 251 messages, each with a worker of its own');
select count(queue_nack(lease_id, p_error => 'no', p_retry_in => '0')) from lease;
select t.clock_moves('1 second');
select is((select sum(attempt) from generate_series(1, 251) as n, queue_claim('work', 1, p_worker => 'v' || n)), 502::bigint, 'on their last attempt');

-- when all workers but one are gone, and that one has extended its lease
select t.clock_moves('50 seconds');
select e.lost from lease, queue_extend(lease_id, '30 minutes') as e where worker = 'v7';
select t.clock_moves('30 seconds');
-- then whoever starts up and claims, or sweeps, captures the 250
-- (a tick takes leases back for at most 50 ms, so how many claims that takes depends on the machine)
do $$
begin
    for n in 1..1000 loop
        perform tidegate.queue_claim('work', 100);
        commit;
        exit when not exists (select from tidegate.lease where expires_at <= tidegate.clock_now());
        perform t.clock_moves('1 second');
        commit;
    end loop;
end;
$$;
select is(dead_letter_count(p_reason => 'expired'), 250::bigint, '250 are captured');
select is((select count(distinct message_id) from dead_letter), 250::bigint, 'each once');
select is(t.places('work'), 'lease=1 dead=250', 'the running one is untouched, and nothing is anywhere else');
select is((select max(attempts) from dead_letter)::int, 2, 'their attempts are all they had');

-- and cleanup, however late, takes none of them
select t.clock_moves('10 seconds');
select cleanup_sweep();
select is(dead_letter_count(), 250::bigint, 'capture precedes cleanup');
select is((select s.acked from lease as l, queue_ack(l.lease_id) as s), 1, 'and the running one may still succeed');
select is((select count(*) from dead_letter where message_id = 7), 0::bigint, 'without a trace among the dead');

select * from finish();
