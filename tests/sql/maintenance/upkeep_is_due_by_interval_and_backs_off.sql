-- R104, R109, R129
select plan(19);
select t.clock_stands();
create function pg_temp.due(p_job text) returns text language sql
as $$ select format('%s %s', d.due_in, d.failure_count) from maintenance_due() d where d.job = p_job $$;
-- given that nothing ever ran
select is((select count(*) from maintenance_due() d where d.due_in > '0'), 0::bigint, 'all is due');
select ok((select array_agg(d.job) from maintenance_due() d) @> '{tick,counters,cleanup}', 'the list names what there is');
-- its next time is written before it runs
select ok(maintenance_start('cleanup'), 'a job that is due is taken');
select is(pg_temp.due('cleanup'), '00:05:00 0', 'and is due again after its interval, whatever becomes of it');
select ok(not maintenance_start('cleanup'), 'nobody else gets it meanwhile');
select is((select d.succeeded_at from maintenance_due() d where d.job = 'cleanup'), null, 'it has not succeeded yet');
select t.clock_moves('10 seconds');
select is(maintenance_finish('cleanup'), '00:04:50'::interval, 'success keeps the cadence');
select is((select d.succeeded_at from maintenance_due() d where d.job = 'cleanup'), clock_now(), 'success is noted');
-- failures back off: 2, 4, … 32 times the interval
select is(
    array(select maintenance_finish('cleanup', 'no room') from generate_series(1, 6)),
    array['10 min', '20 min', '40 min', '80 min', '160 min', '160 min']::interval[], 'interval times 2^min(n, 5)'
);
select is(
    (select row(u.failure_count, u.last_error, u.succeeded_at < u.failed_at or u.succeeded_at = u.failed_at)::text from upkeep u where u.job = 'cleanup'),
    '(6,"no room",t)', 'the streak, the error and the last success stand'
);
select ok(not maintenance_start('cleanup'), 'not before that');
select t.clock_moves('161 minutes');
select ok(maintenance_start('cleanup'), 'then it is taken again');
select is(maintenance_finish('cleanup'), '5 minutes'::interval, 'success resets the backoff');
select is(pg_temp.due('cleanup'), '00:05:00 0', 'and the streak');
-- an error of a part keeps the cadence, and is no success
select is(maintenance_finish('cleanup', 'no guard', p_systemic => false), '5 minutes'::interval, 'at its usual time');
-- more to do
select maintenance_finish('cleanup', null, true);
select is(pg_temp.due('cleanup'), '00:00:00 0', 'a job that left something is due at once');
-- a clock that was set back silences nothing
select maintenance_start('cleanup');
select t.clock_moves('-1 year');
select ok(maintenance_start('cleanup'), 'a due time of another age does not count');
select is((select count(*) from maintenance_run r where r.job = 'cleanup'), 1::bigint, 'one row a job');
select throws_like($$select maintenance_start('nap')$$, '%''nap''%', 'an unknown job is told');
select * from finish();
