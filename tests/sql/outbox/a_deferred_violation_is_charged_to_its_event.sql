-- R7: what a handler leaves to the end of the transaction is checked where it can be told from the others
select plan(3);
create schema shop;
create table shop.invoice (n integer, constraint invoice_once unique (n) deferrable initially deferred);
create function shop.on_order(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$insert into invoice values ((p_payload ->> 'n')::integer)$$;
select topic_create('orders');
select outbox_route('orders', p_handler => 'shop.on_order(jsonb)');
select count(*) from outbox_put_many(
    'orders', array['{"n": 1}', '{"n": 2}', '{"n": 1}', '{"n": 3}']::jsonb[]
);

select is(
    (select row(s.claimed, s.dispatched, s.retried, s.dead_lettered)::text from outbox_sweep() as s),
    '(4,3,1,0)',
    'one of the two that collide is charged'
);
select is((select count(*) from shop.invoice), 3::bigint, 'the others are done');
select is(t.places('orders'), 'scheduled=1', 'and it waits for its retry');

select * from finish();
