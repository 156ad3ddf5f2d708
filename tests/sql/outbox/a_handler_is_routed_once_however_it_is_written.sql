-- R8: a second route to the same handler would run it twice an event
select plan(4);
create schema shop;
create table shop.ran (n integer);
create function shop.on_order(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$insert into ran values (1)$$;
select topic_create('orders');
select outbox_route('orders', p_handler => 'shop.on_order') as route_id \gset
set quote_all_identifiers = on;
select is(outbox_route('orders', p_handler => 'shop.on_order'), :route_id::bigint, 'when all identifiers are quoted');
reset quote_all_identifiers;
select is(outbox_route('orders', p_handler => '"shop"."on_order"(jsonb)'), :route_id::bigint, 'when it is written with quotes');
set search_path = shop, tidegate, t, tap, public;
select is(outbox_route('orders', p_handler => 'SHOP.on_order'), :route_id::bigint, 'when it is shouted');
select outbox_put('orders', '1');
select count(*) from outbox_sweep();
select is((select count(*) from shop.ran), 1::bigint, 'it runs once');

select * from finish();
