-- R7, R10, R16, R21, Must hold 2 of the outbox: 500 events, one whose handler raises
select plan(9);
select t.clock_stands();
create schema shop;
create table shop.seen (n integer);
create function shop.on_order(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    if (p_payload ->> 'n')::integer % 500 = 250 then
        raise exception 'order % is poison', p_payload ->> 'n';
    end if;
    insert into seen values ((p_payload ->> 'n')::integer);
end;
$$;
select topic_create('orders', '{"backoff_base": "0", "max_attempts": 4}');
select outbox_route('orders', p_handler => 'shop.on_order(jsonb)');

-- given 500 due events, one of them poison
select count(*) from outbox_put_many(
    'orders', array(select jsonb_build_object('n', n) from generate_series(1, 500) as n)
);

-- when they are swept
select is(
    (select s::text from outbox_sweep(500) as s),
    '(500,499,1,0,"order 250 is poison")',
    'one fails alone, with its own error'
);
select is((select count(*) from shop.seen), 499::bigint, 'the others were handled, once each');
select results_eq(
    $$select attempts::int, payload ->> 'n' from ready$$, $$values (1, '250')$$, 'only the poison was charged'
);

-- and younger events flow past it
select outbox_put('orders', '{"n": 501}');
select is((select s::text from outbox_sweep(500) as s), '(2,1,1,0,"order 250 is poison")', 'twice');
select outbox_put('orders', '{"n": 502}');
select is((select s::text from outbox_sweep(500) as s), '(2,1,1,0,"order 250 is poison")', 'thrice');
select outbox_put('orders', '{"n": 503}');
select is(
    (select s::text from outbox_sweep(500) as s),
    '(2,1,0,1,"order 250 is poison")',
    'until it dies of its max_attempts'
);
select results_eq(
    $$select attempts::int, reason, last_error from dead_letter$$,
    $$values (4, 'exhausted', 'order 250 is poison')$$,
    'with the terminal count and its own message'
);
select is((select s::text from outbox_sweep(500) as s), '(0,0,0,0,)', 'nothing is left');
select is((select count(distinct n) from shop.seen), 502::bigint, 'and nothing was lost');

select * from finish();
