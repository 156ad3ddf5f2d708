-- R84: the clock was an hour ahead for a moment
select plan(16);
create function pg_temp.clock() returns text language sql
as $$ select concat_ws(': ', d.status, d.seen) from doctor() d where d.check_name = 'clock' $$;
create function pg_temp.claims(p_key text, p_owner text) returns text language sql
as $$ select outcome from guard_claim('s', p_key, p_owner, '5 minutes') $$;
select t.clock_stands();
select queue_create('q');
select queue_send('q', '1'), queue_send('q', '2');
select run_open('r');
select pg_temp.claims('renewed', 'w');
select alike(pg_temp.clock(), 'ok: %', 'all is well');
select t.clock_moves('1 hour');
select pg_temp.claims('claimed', 'w'), pg_temp.claims('alive', 'w'), pg_temp.claims('finished', 'w');
select guard_renew('s', 'renewed', 'w', '5 minutes');
select guard_claim('s', 'orphan', 'w', '5 minutes', 'r');
select count(*) from queue_claim('q', 1, '1 minute');
select leader_acquire('l', 'w');
select barrier_open('b', 1);
-- then it is set back
select t.clock_moves('-1 hour');
select is(
    pg_temp.clock(),
    'warn: from a time that is still to come: 5 guard(s), 1 lease(s) of messages, 1 barrier(s), 1 leader(s)',
    'the doctor names it'
);
select is(pg_temp.claims('claimed', 'x'), 'held', 'its holder has it');
select is(
    (select expires_at - clock_now() from guard where key = 'claimed'), interval '5 minutes',
    'for as long as it was claimed for, from now'
);
select is(pg_temp.claims('renewed', 'x'), 'held', 'as has one who has renewed');
select is(pg_temp.claims('alive', 'x'), 'held', 'and one who is alive');
select t.clock_moves('4 minutes');
select is((select outcome from guard_renew('s', 'alive', 'w', '5 minutes')), 'renewed', 'who goes on');
select t.clock_moves('90 seconds');
select is(pg_temp.claims('claimed', 'x'), 'won', 'then it is taken over');
select is(pg_temp.claims('renewed', 'x'), 'won', 'that of one who had renewed, too');
select is(pg_temp.claims('alive', 'x'), 'held', 'but not that of one who is alive');
select is(guard_finish('s', 'finished', 'w', '1'), 'done', 'one that nobody else came for is finished as ever');
select is((select outcome from leader_acquire('l', 'x')), 'won', 'a leader is replaced at once');
select alike(pg_temp.clock(), 'warn: % 1 guard(s), 1 lease(s) of messages, 1 barrier(s), 0 leader(s)', 'what is left is named');
-- a run that has ended
select run_finish('r', 'completed');
select t.clock_moves('-1 day');
update run set finished_at = clock_now() - interval '61 minutes';
select is((select guards from recovery_sweep()), 1, 'an orphan of it does not wait for the hour either');
select is((select outcome from guard_claim('s', 'orphan', 'x')), 'done', 'it is a tombstone');
select t.clock_moves('1 day 2 hours');
select alike(pg_temp.clock(), 'ok: %', 'and all of it ends when its instant has come');
select * from finish();
