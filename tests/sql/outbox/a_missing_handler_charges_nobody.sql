-- the events wait until the handler or the route is mended
select plan(5);
create schema shop;
create function shop.on_order(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$select$$;
select topic_create('orders');
select outbox_route('orders', p_handler => 'shop.on_order(jsonb)');
select outbox_put('orders', '1');
drop function shop.on_order(jsonb);

select is((select s.claimed from outbox_sweep() as s), 0, 'nothing is claimed');
select matches((select s.first_error from outbox_sweep() as s), 'shop.on_order', 'the answer names the handler');
select is(t.places('orders'), 'ready=1', 'the event waits');
select is((select attempts::int from ready), 0, 'uncharged');

create function shop.on_order(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$select$$;
select is((select s::text from outbox_sweep() as s), '(1,1,0,0,)', 'and is handled when the handler is back');

select * from finish();
