-- R7: neither an ASSERT nor a cancel is caught by WHEN OTHERS, and neither may stop a topic
select plan(8);
create schema shop;
create table shop.ran (n integer);
create function shop.asserts(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    assert p_payload <> '3', 'three is odd';
    insert into ran values ((p_payload #>> '{}')::integer);
end;
$$;
select topic_create('orders', '{"backoff_base": "0", "max_attempts": 2}');
select outbox_route('orders', p_handler => 'shop.asserts');
select count(*) from outbox_put_many('orders', array(select to_jsonb(n) from generate_series(1, 6) as n));
select is((select s::text from outbox_sweep() as s), '(6,5,1,0,"three is odd")', 'an assertion fails alone');
select is((select s::text from outbox_sweep() as s), '(1,0,0,1,"three is odd")', 'and dies of it');
select is((select count(*) from shop.ran), 5::bigint, 'the others ran once');

-- a handler that raises the SQLSTATE of a cancel
create function shop.cancels(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    if p_payload in ('3', '4') then
        raise exception using errcode = '57014', message = 'cancelled';
    end if;
    insert into ran values ((p_payload #>> '{}')::integer);
end;
$$;
truncate shop.ran;
select topic_create('cancelled', '{"backoff_base": "0", "max_attempts": 2}');
select outbox_route('cancelled', p_handler => 'shop.cancels');
select count(*) from outbox_put_many('cancelled', array(select to_jsonb(n) from generate_series(1, 6) as n));
create temporary table swept (claimed integer, dispatched integer, retried integer, dead_lettered integer, first_error text);
insert into swept select s.* from generate_series(1, 20) as n cross join lateral outbox_sweep(100 + n, 'cancelled') as s;
select is((select sum(dispatched) from swept), 4::bigint, 'the others are delivered');
select is((select count(*) from shop.ran), 4::bigint, 'once each');
select results_eq(
    $$select payload, attempts::int, last_error from dead_letter where channel = 'cancelled' order by payload$$,
    $$values ('3'::jsonb, 2, 'cancelled'), ('4', 2, 'cancelled')$$,
    'who raised it is charged until it dies'
);
select is((select sum(retried)::int from swept), 2, 'and nobody else');
select is(t.places('cancelled'), 'dead=2', 'nothing stands in the way');

select * from finish();
