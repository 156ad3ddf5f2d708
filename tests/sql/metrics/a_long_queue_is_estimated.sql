select plan(6);
select queue_create('q');
select queue_create('small');
select count(*) from queue_send_many('q', array_fill('{}'::jsonb, array[5000]));
select queue_send('small', '{}');
create function pg_temp.depth(p_queue text) returns double precision language sql
as $$ select m.value from metrics() m where m.name = 'tidegate_depth' and m.labels @> jsonb_build_object('channel', p_queue, 'place', 'ready') $$;
-- given a bound above what is there
create temporary table exact as select * from metrics_snapshot(5000);
select is((select estimates from exact), 0, 'nothing is estimated');
select is(pg_temp.depth('q'), 5000::double precision, 'and the count is exact');
-- when there is more than is counted
create temporary table estimated as select * from metrics_snapshot(1000);
-- then it is said to be an estimate, and is one
select is((select estimates from estimated), 1, 'one value is an estimate');
select is((select m.value from metrics() m where m.name = 'tidegate_snapshot_estimates'), 1::double precision, 'which is told');
select ok(pg_temp.depth('q') between 4000 and 6000, 'of the right size');
select is(pg_temp.depth('small'), 1::double precision, 'the others are exact');
select * from finish();
