-- R16: one poison event more than a sweep takes
select plan(4);
select t.clock_stands();
create schema shop;
create table shop.seen (n integer);
create function shop.on_order(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    if (p_payload ->> 'poison')::boolean then
        raise exception 'poison';
    end if;
    insert into seen values ((p_payload ->> 'n')::integer);
end;
$$;
select topic_create('orders', '{"backoff_base": "0", "max_attempts": 0}');
select outbox_route('orders', p_handler => 'shop.on_order');

-- given 501 poison events at the head that are retried at once and for ever, and one good event behind
select count(*) from outbox_put_many(
    'orders', array(select jsonb_build_object('n', n, 'poison', true) from generate_series(1, 501) as n)
);
select outbox_put('orders', '{"n": 502, "poison": false}');

select is((select s.dispatched from outbox_sweep(500) as s), 0, 'the first sweep meets poison only');
select t.clock_moves('1 second');
select is((select s.dispatched from outbox_sweep(500) as s), 1, 'the second reaches the good event');
select is((select n from shop.seen), 502, 'it was handled');
select is(t.places('orders'), 'ready=501', 'and no poison was lost');

select * from finish();
