-- R25 for queue_work
select plan(2);
create schema shop;
create function shop.mail(p_payload jsonb) returns void language sql set search_path = shop, pg_temp as $$select$$;
select queue_create('busy');
select queue_create('calm');
vacuum (analyze) tidegate.ready, tidegate.scheduled, tidegate.lease, tidegate.body;
select count(*) from generate_series(1, 20), queue_send_many('busy', array_fill('1'::jsonb, array[1000]));
select count(*) from queue_send_many('calm', array_fill('1'::jsonb, array[500]));

begin;
set local tidegate.tick = 'on';
select t.reads_begin();
select queue_work('calm', 'shop.mail', 500);
select is_empty($$select place from t.reads() where sequential_scans > 0$$, 'no place is read sequentially');
select cmp_ok(
    (select rows_by_index from t.reads() where place = 'ready'), '<=', 1600::bigint,
    'ready is read for what is worked on only'
);
commit;

select * from finish();
