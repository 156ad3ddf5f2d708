-- exactly once: effect and settlement are one transaction
select plan(6);
create schema shop;
create table shop.mailed (n integer);
create function shop.mail(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$insert into mailed values ((p_payload #>> '{}')::integer)$$;
select queue_create('mail');
select count(*) from queue_send_many('mail', array(select to_jsonb(n) from generate_series(1, 5) as n));

-- given a caller that changes its mind, or crashes
begin;
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(5,0,0,f)', 'all are done');
rollback;
select is((select count(*) from shop.mailed), 0::bigint, 'nothing of it happened');
select is(t.places('mail'), 'ready=5', 'the messages are where they were');
select is((select max(attempts)::int from ready), 0, 'uncharged');

select queue_work('mail', 'shop.mail', 2);
select queue_work('mail', 'shop.mail', 2);
select queue_work('mail', 'shop.mail', 2);
select results_eq($$select n from shop.mailed$$, $$select generate_series(1, 5)$$, 'each happens once, in order');
select is(t.places('mail'), '', 'and is done');

select * from finish();
