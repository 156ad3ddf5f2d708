-- to a tick within a work, what is worked on is gone: it would raise the floor over what then goes back
select plan(4);
create schema shop;
create table shop.claimed (n integer);
create table shop.saw (setting text);
create function shop.slow(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$
insert into saw values (current_setting('tidegate.tick', true));
select pg_sleep(1.1);
insert into claimed select (d.payload #>> '{}')::integer from tidegate.queue_claim('mail', 100) as d;
$$;
select queue_create('mail');
select count(*) from queue_send_many('mail', array['1', '2', '3']::jsonb[]);

set statement_timeout = '2 s';
begin;
set local tidegate.tick = 'on';
select w.acked from queue_work('mail', 'shop.slow') as w \gset
select current_setting('tidegate.tick') as tick \gset
commit;
reset statement_timeout;
select is(:acked, 1, 'one is done, two go back');
select results_eq($$select payload from queue_claim('mail', 100)$$, $$values ('2'::jsonb), ('3')$$, 'and are found');
select results_eq($$select setting from shop.saw$$, $$values ('off')$$, 'whatever its caller had asked for');
select is(:'tick'::text, 'on', 'who keeps what he had asked for');

select * from finish();
