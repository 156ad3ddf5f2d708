-- sweeps pin their own plans to the indexes of the places; the tables of a handler have others
select plan(2);
create schema shop;
create table shop.seen (name text, setting text);
create function shop.look(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$
insert into seen
select s.name, s.setting from pg_settings as s where s.name in ('enable_seqscan', 'enable_bitmapscan', 'plan_cache_mode')
$$;
select topic_create('orders');
select outbox_route('orders', p_handler => 'shop.look');
select queue_create('mail');

select outbox_put('orders', '1');
select outbox_sweep();
select results_eq(
    $$select name, setting from shop.seen order by name$$,
    $$values ('enable_bitmapscan', 'on'), ('enable_seqscan', 'on'), ('plan_cache_mode', 'auto')$$, 'in a sweep'
);
truncate shop.seen;
select queue_send('mail', '1');
select queue_work('mail', 'shop.look');
select results_eq(
    $$select name, setting from shop.seen order by name$$,
    $$values ('enable_bitmapscan', 'on'), ('enable_seqscan', 'on'), ('plan_cache_mode', 'auto')$$, 'in a work'
);

select * from finish();
