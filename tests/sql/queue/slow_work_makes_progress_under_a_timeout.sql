-- R7, R14: what was not reached is where it was, in order
select plan(8);
create schema shop;
create table shop.ran (n integer);
create function shop.mail(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    insert into ran values ((p_payload #>> '{}')::integer);
    perform pg_sleep(case p_payload when '0' then 60 else 0.2 end);
end;
$$;
select queue_create('mail', '{"backoff_base": "0", "max_attempts": 2}');

-- given ten messages of 0.2 s each, and a second for all
select count(*) from queue_send_many('mail', array(select to_jsonb(n) from generate_series(1, 10) as n));
create temporary table before as select position, message_id from ready;
set statement_timeout = '1 s';
select w.acked, w.retried + w.dead_lettered as failed from queue_work('mail', 'shop.mail') as w \gset
reset statement_timeout;
select cmp_ok(:acked, '>', 0, 'some are done');
select cmp_ok(:acked, '<', 10, 'not all');
select is(:failed, 0, 'nobody is charged');
select is((select count(*) from shop.ran), :acked::bigint, 'what was not reached has done nothing');
select results_eq(
    $$select position, message_id from ready order by 1$$,
    format('select position, message_id from before order by 1 offset %s', :acked),
    'and is where it was'
);

-- one that hangs, at the head
delete from ready;
truncate shop.ran;
select count(*) from queue_send_many('mail', array['0', '1', '2', '3']::jsonb[]);
set statement_timeout = '1 s';
select queue_work('mail', 'shop.mail');
select queue_work('mail', 'shop.mail');
select queue_work('mail', 'shop.mail');
select queue_work('mail', 'shop.mail');
select queue_work('mail', 'shop.mail');
reset statement_timeout;
select results_eq(
    $$select payload, attempts::int, reason from dead_letter$$, $$values ('0'::jsonb, 2, 'exhausted')$$,
    'one that hangs is charged until it dies'
);
select results_eq($$select n from shop.ran order by n$$, $$values (1), (2), (3)$$, 'and the others flow past it');
select is(t.places('mail'), 'dead=1', 'nothing is left');

select * from finish();
