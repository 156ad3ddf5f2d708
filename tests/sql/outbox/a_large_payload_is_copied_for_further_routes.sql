-- R153: a body has one owner
select plan(4);
select topic_create('orders');
select queue_create('left');
select queue_create('right');
select outbox_route('orders', 'left');
select outbox_route('orders', 'right');
create table big as
    select jsonb_build_object('text', string_agg(md5(n::text), '')) as payload from generate_series(1, 300) as n;
select outbox_put('orders', payload) from big;
select outbox_sweep();

select is((select count(*) from body), 2::bigint, 'each copy has a body of its own');
select lease_id, payload = (select payload from big) as is_whole from queue_claim('left') \gset
select queue_ack(:'lease_id');
select is((select count(*) from body), 1::bigint, 'it goes with its owner');
select lease_id, payload = (select payload from big) as is_whole from queue_claim('right') \gset
select ok(:'is_whole', 'the other copy is whole');
select queue_ack(:'lease_id');
select is_empty($$select from body$$, 'and goes with its own');

select * from finish();
