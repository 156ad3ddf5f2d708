-- R25, design 1.3: on tables that were empty when they were analysed, which makes the worst of plans
select plan(4);
select topic_create('busy');
select topic_create('calm');
vacuum (analyze) tidegate.ready, tidegate.scheduled, tidegate.lease, tidegate.floor, tidegate.tide;

-- given a skewed table: one channel holds everything, the other one message
select count(*) from generate_series(1, 20), outbox_put_many('busy', array_fill('1'::jsonb, array[1000]));
select outbox_put('calm', '1');
select outbox_put('calm', '1', p_run_at => clock_now() + interval '1 day');

-- when the crowded channel is claimed from, with a tick
begin;
set local tidegate.tick = 'on';
select t.reads_begin();
select count(*) from outbox_claim('busy', 100);
select is_empty(
    $$select place from t.reads() where sequential_scans > 0$$, 'no place is read sequentially'
);
select cmp_ok(
    (select rows_by_index from t.reads() where place = 'ready'), '<=', 210::bigint,
    'ready is read for what is claimed, and little more'
);
commit;

-- and the channel beside it
begin;
set local tidegate.tick = 'on';
select t.reads_begin();
select count(*) from outbox_claim('calm', 100);
select is_empty(
    $$select place from t.reads() where sequential_scans > 0$$, 'no place is read sequentially'
);
select cmp_ok(
    (select rows_by_index from t.reads() where place = 'ready'), '<=', 10::bigint,
    'nothing of the crowd is read'
);
commit;

select * from finish();
