-- design 1.3: the floor is proven, the hint starts at the lowest live position
select plan(4);
select t.clock_stands();
select topic_create('orders', '{"lease": "1 day", "max_runtime": "1 day"}');
select count(*) from outbox_put_many('orders', array(select to_jsonb(n) from generate_series(1, 30) as n));
select outbox_put('orders', '"seven"', p_priority => 7) from generate_series(1, 3);

create function pg_temp.passed() returns setof text language sql as $$
    select format('priority %s: position %s is not above %s', r.priority, r.position, greatest(f.h, f.f))
    from ready r
    cross join lateral (
        select n.hints[r.priority + 1] as h, n.floors[r.priority + 1] as f from floor n
        where n.channel_id = r.channel_id order by n.floor_id desc limit 1
    ) as f
    where r.position <= greatest(f.h, f.f)
$$;

select count(*) from outbox_claim('orders', 10);
select t.clock_moves('2 seconds');
select _tick((select channel_id from channel));
select is_empty($$select * from pg_temp.passed()$$, 'no live message stands at or below a hint or floor');
select is(
    (select array[floors[1], hints[1], floors[8]] from floor order by floor_id desc limit 1),
    array[10, 10, 30]::bigint[],
    'each priority has risen to just below its lowest live message'
);
select count(*) from outbox_claim('orders', 1000);
select t.clock_moves('2 seconds');
select _tick((select channel_id from channel));
select is(
    (select array[floors[1], floors[8]] from floor order by floor_id desc limit 1),
    array[33, 33]::bigint[],
    'and to the last position drawn where nothing is left'
);
select outbox_put('orders', '"next"');
select is((select payload from outbox_claim('orders')), '"next"'::jsonb, 'what comes next lies above');

select * from finish();
