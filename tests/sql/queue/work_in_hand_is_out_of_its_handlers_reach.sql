-- locks of one's own transaction stop nobody: what is worked on is taken out first
select plan(7);
create schema shop;
create table shop.ran (n integer);
create table shop.claimed (n integer);
select queue_create('mail');
create function shop.greedy(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$
insert into ran values ((p_payload #>> '{}')::integer);
insert into claimed select (d.payload #>> '{}')::integer from tidegate.queue_claim('mail', 100) as d;
select tidegate.queue_send('mail', '9') where p_payload = '1';
$$;
select count(*) from queue_send_many('mail', array['1', '2', '3', '4']::jsonb[]);
select is((select w::text from queue_work('mail', 'shop.greedy', 2) as w), '(2,0,0,f)', 'two are worked on');
select results_eq($$select n from shop.ran$$, $$values (1), (2)$$, 'once each');
select results_eq($$select n from shop.claimed$$, $$values (3), (4), (9)$$, 'a claim by the handler finds the others only');
select is(t.places('mail'), 'lease=3', 'each stands in one place');

-- one that takes its own queue away
select queue_create('brief');
create function shop.dropper(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$select tidegate.queue_drop('brief')$$;
select queue_send('brief', '1');
select throws_ok($$select queue_work('brief', 'shop.dropper')$$, 'TG020', null, 'cannot take the message with it');
select is(t.places('brief'), 'ready=1', 'both are still there');
select lives_ok($$select outbox_sweep()$$, 'and the mark of the call is gone');

select * from finish();
