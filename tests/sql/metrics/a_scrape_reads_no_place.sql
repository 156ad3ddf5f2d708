-- R134, R137, R139
select plan(10);
create function pg_temp.gauge(p_name text, p_place text default null) returns double precision language sql
as $$ select sum(m.value) from metrics() m where m.name = p_name and m.labels ->> 'place' is not distinct from p_place $$;
select t.clock_stands();
select queue_create('q');
select topic_create('t');
-- given no snapshot: gauges of queues are absent, not 0
select is(pg_temp.gauge('tidegate_depth', 'ready'), null, 'nothing is said before the first look');
select is(pg_temp.gauge('tidegate_schema_version'), (select max(left(migration, 4)::integer) from migration)::double precision, 'but what is installed');
-- when something stands everywhere, and a snapshot is taken
select count(*) from queue_send_many('q', array_fill('{}'::jsonb, array[7]));
select queue_send('q', '{}', p_run_at => clock_now() + interval '1 hour');
select count(*) from queue_send_many('q', array['{}', '{}']::jsonb[], p_group_key => 'g');
select count(*) from queue_claim('q', 2);
select outbox_put('t', '{}');
create temporary table taken as select * from metrics_snapshot();
-- then it says so
select is((select errors from taken), '{}', 'no probe failed');
select is(
    (select array_agg(m.value order by m.labels ->> 'place') from metrics() m
     where m.name = 'tidegate_depth' and m.labels @> '{"kind": "queue", "channel": "q"}'),
    '{1,2,6,1}', 'blocked, leased, ready, scheduled'
);
select is(pg_temp.gauge('tidegate_leases'), 1::double precision, 'one lease is out');
-- when more comes, a scrape tells what the snapshot saw, and looks at no place
select count(*) from queue_send_many('q', array_fill('{}'::jsonb, array[100]));
select t.reads_begin();
select count(*) from metrics();
select is_empty(
    $$select * from t.reads() where place not in ('tally', 'floor', 'tide') and (sequential_scans > 0 or rows_by_index > 0)$$,
    'a scrape reads no place'
);
select is(pg_temp.gauge('tidegate_depth', 'ready'), 7::double precision, 'what came since is not in it');
select t.clock_moves('9 minutes');
select is(pg_temp.gauge('tidegate_snapshot_age_seconds'), 540::double precision, 'its age is a sample');
-- and one of long ago says nothing of now
select t.clock_moves('2 minutes');
select is(pg_temp.gauge('tidegate_depth', 'ready'), null, 'gauges of an old snapshot are absent');
select is(pg_temp.gauge('tidegate_snapshot_age_seconds'), 660::double precision, 'its age is not');
select * from finish();
