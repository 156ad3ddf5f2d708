-- design 1.3: the tick is bounded in rows, whatever waits behind
select plan(3);
select t.clock_stands();
select topic_create('orders', '{"lease": "1 minute"}');
vacuum (analyze) tidegate.ready, tidegate.scheduled, tidegate.lease;

-- given 30 000 delayed events, none due, 20 000 ready, and ten that are due
select count(*)
from generate_series(1, 30),
    outbox_put_many('orders', array_fill('1'::jsonb, array[1000]), p_run_at => clock_now() + interval '1 day');
select count(*) from generate_series(1, 20), outbox_put_many('orders', array_fill('1'::jsonb, array[1000]));
select count(outbox_put('orders', '"due"', p_run_at => clock_now() + interval '1 second')) from generate_series(1, 10);
select t.clock_moves('10 seconds');

-- when a claim ticks
begin;
set local tidegate.tick = 'on';
select t.reads_begin();
select count(*) from outbox_claim('orders', 1);
select is_empty($$select place from t.reads() where sequential_scans > 0$$, 'no place is read sequentially');
select cmp_ok(
    (select rows_by_index from t.reads() where place = 'scheduled'), '<=', 50::bigint, 'only what is due is read'
);
select cmp_ok(
    (select rows_by_index from t.reads() where place = 'ready'), '<=', 20::bigint, 'and the head of ready'
);
commit;

select * from finish();
