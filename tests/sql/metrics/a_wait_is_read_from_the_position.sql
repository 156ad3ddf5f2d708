select plan(7);
create function pg_temp.waited() returns double precision language sql
as $$ select m.value from metrics() m where m.name = 'tidegate_oldest_ready_seconds' $$;
select t.clock_stands();
select queue_create('q');
select metrics_snapshot();
select is(pg_temp.waited(), 0::double precision, 'nothing waits');
-- given a message that was put for tomorrow, and has just become ready
select queue_send('q', '{"n": 1}', p_run_at => clock_now() + interval '1 day');
select t.clock_moves('1 day 1 second');
select maintenance_tick();
select metrics_snapshot();
select is(pg_temp.waited(), 0::double precision, 'it has not waited for a day');
-- when nobody comes for ten minutes
select t.clock_moves('10 minutes');
select metrics_snapshot();
select is(pg_temp.waited(), 600::double precision, 'it has waited for ten minutes');
-- and a younger one makes no difference, nor does one in front of it
select queue_send('q', '{"n": 2}');
select queue_send('q', '{"n": 3}', p_priority => 0);
select metrics_snapshot();
select is(pg_temp.waited(), 600::double precision, 'the oldest counts');
-- when it is worked on, the next one is the oldest
select queue_ack(lease_id) from queue_claim('q', 1);
select t.clock_moves('1 minute');
select metrics_snapshot();
select is(pg_temp.waited(), 60::double precision, 'then the next');
-- a sequence that was set back leaves no mark that lies
select count(*) from queue_claim('q', 10);
select setval('position_seq', 1);
select metrics_snapshot();
select is((select count(*) from position_mark where position > 1), 0::bigint, 'marks above the sequence go');
-- marks and snapshots are trimmed
select t.clock_moves('8 days');
select metrics_snapshot();
select is((select (select count(*) from position_mark) + (select count(*) from metric_snapshot)), 1::bigint, 'the past is forgotten');
select * from finish();
