-- R10, R145: a trigger passes on what its table has compressed
select plan(5);
select topic_create('orders');
create table public.source (p jsonb, h jsonb);
insert into public.source select jsonb_build_object('x', repeat('y', 150000)), jsonb_build_object('h', repeat('z', 500000));
insert into public.source select jsonb_build_object('x', repeat('y', 1900)), jsonb_build_object('h', repeat('z', 100));
select throws_ok(
    $$select outbox_put('orders', '1', p_headers => h) from public.source where p ->> 'x' > repeat('y', 5000)$$,
    'TG010', null, 'headers of half a megabyte are refused'
);
select throws_ok(
    $$select outbox_put_many('orders', '{1}', p_headers => h) from public.source where p ->> 'x' > repeat('y', 5000)$$,
    'TG010', null, 'also of many'
);
select lives_ok($$select outbox_put('orders', p) from public.source$$, 'payloads are taken');
select lives_ok($$select outbox_put_many('orders', array[p]) from public.source$$, 'also many');
select results_eq(
    $$select body_id is not null, body_bytes > 150000 from ready order by position$$,
    $$values (true, true), (false, null), (true, true), (false, null)$$,
    'the large ones stand in body, with their size'
);

select * from finish();
