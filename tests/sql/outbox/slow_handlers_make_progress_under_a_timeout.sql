-- R7, R14: a sweep stops calling handlers in time, and keeps what they did
select plan(7);
create schema shop;
create table shop.ran (n integer);
create function shop.on_order(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    insert into ran values ((p_payload #>> '{}')::integer);
    perform pg_sleep(case p_payload when '0' then 60 else 0.2 end);
end;
$$;
select topic_create('orders', '{"backoff_base": "0", "max_attempts": 2}');
select outbox_route('orders', p_handler => 'shop.on_order');

-- given ten events of 0.2 s each, and a second for all
select count(*) from outbox_put_many('orders', array(select to_jsonb(n) from generate_series(1, 10) as n));
set statement_timeout = '1 s';
select s.dispatched, s.retried, coalesce(s.first_error, '') as first_error from outbox_sweep() as s \gset
reset statement_timeout;
select cmp_ok(:dispatched, '>', 0, 'some are delivered');
select is(:retried, 0, 'nobody is charged');
select is(:'first_error'::text, '', 'and there is no error');
select is((select count(*) from ready) + :dispatched, 10::bigint, 'nothing is lost');
select is((select count(*) from shop.ran), :dispatched::bigint, 'what was not delivered has done nothing');

-- one that hangs, at the head
delete from ready;
truncate shop.ran;
select count(*) from outbox_put_many('orders', array['0', '1', '2', '3']::jsonb[]);
create temporary table swept (claimed integer, dispatched integer, retried integer, dead_lettered integer, first_error text);
set statement_timeout = '1 s';
insert into swept select * from outbox_sweep();
insert into swept select * from outbox_sweep();
insert into swept select * from outbox_sweep();
insert into swept select * from outbox_sweep();
insert into swept select * from outbox_sweep();
reset statement_timeout;
select results_eq(
    $$select payload, attempts::int from dead_letter$$, $$values ('0'::jsonb, 2)$$, 'one that hangs is charged until it dies'
);
select results_eq($$select n from shop.ran order by n$$, $$values (1), (2), (3)$$, 'and the others flow past it');

select * from finish();
