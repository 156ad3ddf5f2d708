-- the mark of a snapshot is younger than the snapshot itself, and stays
select plan(2);
select queue_create('q');
select metrics_snapshot();
select queue_send('q', '1');
select metrics_snapshot();
select pg_sleep(0.2);
select metrics_snapshot();
select cmp_ok((select count(*) from position_mark), '>', 0::bigint, 'marks stay');
select cmp_ok(
    (select m.value from metrics() m where m.name = 'tidegate_oldest_ready_seconds'), '>=', 0.2::double precision, 'it has waited'
);
select * from finish();
