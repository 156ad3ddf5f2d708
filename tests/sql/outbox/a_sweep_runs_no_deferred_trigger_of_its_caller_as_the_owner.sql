-- R3: before PostgreSQL 18 a deferred trigger runs as whoever makes it immediate
select plan(4);
select 'eve_' || substr(md5(random()::text), 1, 8) as eve \gset
create role :eve;
grant usage on schema tidegate to :eve;
grant execute on function tidegate.outbox_sweep to :eve;
create schema shop;
grant usage, create on schema shop to :eve;
create table shop.ran (who name);
grant insert on shop.ran to :eve;
create function shop.on_order(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$select$$;
select topic_create('orders');
select outbox_route('orders', p_handler => 'shop.on_order');
select outbox_put('orders', '1');
select outbox_put('orders', '2');

-- given somebody who may sweep, and has a deferred trigger of her own
set session authorization :eve;
create table shop.bait (n integer);
create function shop.note() returns trigger language plpgsql as $$begin insert into shop.ran values (current_user); return null; end;$$;
create constraint trigger late after insert on shop.bait deferrable initially deferred
for each row execute function shop.note();
begin;
insert into shop.bait values (1);
select s.claimed from tidegate.outbox_sweep(1) as s \gset
reset role;
commit;
select tidegate.outbox_sweep(1);
reset session authorization;
select is(:claimed, 1, 'her sweep delivers');
select results_eq($$select who::text collate "default" from shop.ran$$, format('values (%L)', :'eve'), 'her trigger runs as her');
select is(t.places('orders'), '', 'nothing is left');
select is(t.total('orders', 'dispatched'), 2::bigint, 'both are delivered');

drop owned by :eve cascade;
drop role :eve;
select * from finish();
