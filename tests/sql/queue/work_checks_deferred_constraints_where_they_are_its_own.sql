-- R3, R7: what a handler defers is charged to its message; what the caller deferred is the caller's, and runs as him
select plan(9);
select 'eve_' || substr(md5(random()::text), 1, 8) as eve \gset
create role :eve;
grant usage on schema tidegate to :eve;
grant execute on function tidegate.queue_work to :eve;
create schema shop;
grant usage, create on schema shop to :eve;
create table shop.invoice (n integer, constraint invoice_once unique (n) deferrable initially deferred);
create table shop.ran (who name);
grant insert on shop.ran to :eve;
create function shop.bill(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$insert into invoice values ((p_payload #>> '{}')::integer)$$;
select queue_create('bills', '{"backoff_base": "1 hour", "backoff_cap": "1 hour"}');
select count(*) from queue_send_many('bills', array['1', '2', '1', '3']::jsonb[]);
select is((select w::text from queue_work('bills', 'shop.bill') as w), '(3,1,0,f)', 'one of two that collide is charged');
select results_eq($$select n from shop.invoice order by n$$, $$values (1), (2), (3)$$, 'the others are done');

-- given somebody who may call it, and has a deferred trigger of her own
select queue_send('bills', '4');
select queue_send('bills', '5');
set session authorization :eve;
create table shop.bait (n integer);
create function shop.note() returns trigger language plpgsql as $$begin insert into shop.ran values (current_user); return null; end;$$;
create constraint trigger late after insert on shop.bait deferrable initially deferred
for each row execute function shop.note();
begin;
insert into shop.bait values (1);
select w.acked from tidegate.queue_work('bills', 'shop.bill', 1) as w \gset
reset role;
commit;
select tidegate.queue_work('bills', 'shop.bill');
reset session authorization;
select is(:acked, 1, 'she works');
select results_eq($$select who::text collate "default" from shop.ran$$, format('values (%L)', :'eve'), 'her trigger runs as her');
select is(t.places('bills'), 'scheduled=1', 'and all is done');

-- a violation of the caller's own charges no message
create table shop.parent (id integer primary key);
create table shop.child (id integer references shop.parent deferrable initially deferred);
select queue_send('bills', '6');
begin;
insert into shop.child values (1); -- its parent comes later
select is((select w::text from queue_work('bills', 'shop.bill') as w), '(1,0,0,f)', 'the message is done');
insert into shop.parent values (1);
commit;
select is((select count(*) from shop.child), 1::bigint, 'and so is the rest of the transaction');

-- nor is one charged that would be found only at the commit
select queue_send('bills', '6');
begin;
insert into shop.parent values (2);
select is((select w::text from queue_work('bills', 'shop.bill') as w), '(1,0,0,f)', 'beside earlier writes nothing is checked');
select throws_ok('set constraints all immediate', '23505', null, 'until the commit, which would fail');
rollback;

drop owned by :eve cascade;
drop role :eve;
select * from finish();
