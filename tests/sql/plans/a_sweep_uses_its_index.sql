-- R25 for the sweep
select plan(2);
select topic_create('busy');
select topic_create('calm');
select queue_create('work');
select outbox_route('calm', 'work');
vacuum (analyze) tidegate.ready, tidegate.scheduled, tidegate.lease;
select count(*) from generate_series(1, 20), outbox_put_many('busy', array_fill('1'::jsonb, array[1000]));
select count(*) from outbox_put_many('calm', array_fill('1'::jsonb, array[500]));

begin;
set local tidegate.tick = 'on';
select t.reads_begin();
select outbox_sweep(500);
select is_empty($$select place from t.reads() where sequential_scans > 0$$, 'no place is read sequentially');
select cmp_ok(
    (select rows_by_index from t.reads() where place = 'ready'), '<=', 1600::bigint,
    'ready is read for what is swept only'
);
commit;

select * from finish();
