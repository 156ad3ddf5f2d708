-- R7: what the caller has left to the end of the transaction is the caller's
select plan(4);
create schema shop;
create table shop.parent (id integer primary key);
create table shop.child (id integer references shop.parent deferrable initially deferred);
create function shop.on_order(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$select$$;
select topic_create('orders', '{"max_attempts": 1}');
select outbox_route('orders', p_handler => 'shop.on_order');
select outbox_put('orders', '1');

begin;
insert into shop.child values (1); -- its parent comes later
select is((select s::text from outbox_sweep() as s), '(1,1,0,0,)', 'the event is delivered');
select lives_ok($$insert into shop.child values (2)$$, 'what was deferred stays deferred');
insert into shop.parent values (1), (2);
commit;
select is((select count(*) from shop.child), 2::bigint, 'all of it is committed');
select is(t.places('orders'), '', 'and the event is done');

select * from finish();
