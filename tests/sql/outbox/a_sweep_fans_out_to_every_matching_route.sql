-- R6, design 2
select plan(6);
select topic_create('orders.paid');
select topic_create('orders');
select queue_create('mail');
select queue_create('audit');
create schema shop;
create table shop.seen (payload jsonb);
create function shop.on_order(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$insert into seen values (p_payload)$$;

select outbox_route('orders.paid', 'mail');
select outbox_route('orders.*', 'audit');
select outbox_route('orders.*', p_handler => 'shop.on_order(jsonb)');
select is(
    outbox_route('orders.paid', 'mail'), outbox_route('orders.paid', 'mail'), 'a repeated route is the same route'
);

-- given an event whose options must survive
select outbox_put(
    'orders.paid', '{"n": 1}', p_headers => '{"traceparent": "00-1"}', p_priority => 4,
    p_run_id => 'r1', p_tenant => 'acme', p_group_key => 'g'
);
-- and one whose topic the prefix does not match
select outbox_put('orders', '{"n": 2}');

select is((select s::text from outbox_sweep() as s), '(1,1,0,0,)', 'an event counts once however many routes it has');
select results_eq(
    $$select payload, headers, priority, run_id, tenant, group_key, topic from queue_claim('mail')$$,
    $$values ('{"n": 1}'::jsonb, '{"traceparent": "00-1"}'::jsonb, 4::smallint, 'r1', 'acme', 'g', 'orders.paid')$$,
    'the exact route has it, with all it carried'
);
select results_eq(
    $$select payload from queue_claim('audit')$$, $$values ('{"n": 1}'::jsonb)$$, 'so has the prefix'
);
select results_eq($$select payload from shop.seen$$, $$values ('{"n": 1}'::jsonb)$$, 'and the handler');
select is(t.places('orders'), 'ready=1', 'orders.* does not match orders');

select * from finish();
