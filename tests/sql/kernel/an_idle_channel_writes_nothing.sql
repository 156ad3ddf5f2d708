-- design 1.3: an idle queue pays a probe and writes nothing
select plan(2);
select t.clock_stands();
select topic_create('orders');
select outbox_put('orders', '{}');
select lease_id, message_id from outbox_claim('orders') \gset
select outbox_settle(:'lease_id', array[:message_id]);
select t.clock_moves('2 seconds');
select count(*) from outbox_claim('orders');

-- given that the last tick found nothing
select pg_current_wal_insert_lsn() as before \gset
select t.clock_moves('10 seconds');
select floor_id as last_floor from floor order by floor_id desc limit 1 \gset
select is_empty($$select * from outbox_claim('orders')$$, 'there is nothing to claim');
select is((select max(floor_id) from floor), :last_floor::bigint, 'and no tick was written');

select * from finish();
