-- design 2: a handler takes one jsonb or one message
select plan(4);
select topic_create('orders');
select topic_create('mails');
create schema shop;
create function shop.on_order(p_message tidegate.message) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    perform tidegate.outbox_put(
        'mails', jsonb_build_object('about', p_message.payload, 'by', p_message.tenant), p_headers => p_message.headers
    );
end;
$$;
select outbox_route('orders', p_handler => 'shop.on_order(tidegate.message)');
select outbox_put('orders', '1', p_tenant => 'acme', p_headers => '{"trace": "t"}');
select is((select s::text from outbox_sweep() as s), '(1,1,0,0,)', 'it is handled');
select results_eq(
    $$select payload, headers from outbox_claim('mails')$$,
    $$values ('{"by": "acme", "about": 1}'::jsonb, '{"trace": "t"}'::jsonb)$$,
    'with all of the message at hand'
);

-- a handler that is no handler, or would lend the owner's rights, is refused when it is routed
create function shop.wrong(p_a jsonb, p_b jsonb) returns void language sql set search_path = shop, pg_temp as $$$$;
create function shop.loose(p_payload jsonb) returns void language sql as $$$$;
select throws_ok(
    $$select outbox_route('orders', p_handler => 'shop.wrong(jsonb, jsonb)')$$, 'TG041', null, 'two arguments are no handler'
);
select throws_ok(
    $$select outbox_route('orders', p_handler => 'shop.loose(jsonb)')$$, 'TG040', null, 'nor is an open search_path'
);

select * from finish();
