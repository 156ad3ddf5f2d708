-- R4
select plan(8);
select topic_create('orders');

select results_eq(
    $$select outcome from outbox_put_many('orders', array['1', '2', '3']::jsonb[])$$,
    $$values ('inserted'), ('inserted'), ('inserted')$$,
    'one answer an element'
);
select results_eq(
    $$select payload from outbox_claim('orders')$$,
    $$values ('1'::jsonb), ('2'), ('3')$$,
    'in the order of the array'
);
select pg_sequence_last_value('position_seq') as before \gset
select count(*) from outbox_put_many('orders', array['4', '5', '6']::jsonb[]);
select is(pg_sequence_last_value('position_seq') - :before, 3::bigint, 'each draws one position');
select is_empty($$select * from outbox_put_many('orders', '{}')$$, 'nothing for nothing');

-- given keys: the element's key is the key, a colon and its place
select results_eq(
    $$select outcome from outbox_put_many('orders', array['1', '2']::jsonb[], p_idempotency_key => 'b')$$,
    $$values ('inserted'), ('inserted')$$,
    'a keyed batch is inserted once'
);
select results_eq(
    $$select outcome from outbox_put_many('orders', array['1', '2', '3']::jsonb[], p_idempotency_key => 'b')$$,
    $$values ('deduplicated'), ('deduplicated'), ('inserted')$$,
    'and a repeat inserts only what is new'
);

-- given options per event
select results_eq(
    $$select outcome from outbox_put_specs('orders', '[
        {"payload": {"n": 1}, "idempotency_key": "s"},
        {"payload": {"n": 2}, "idempotency_key": "s"},
        {"payload": {"n": 3}, "priority": 1, "headers": {"trace": "t"}, "tenant": "acme"}
    ]')$$,
    $$values ('inserted'), ('deduplicated'), ('inserted')$$,
    'specs answer one by one'
);
select results_eq(
    $$select payload, priority, headers, tenant from outbox_claim('orders') where priority > 0$$,
    $$values ('{"n": 3}'::jsonb, 1::smallint, '{"trace": "t"}'::jsonb, 'acme')$$,
    'and keep their options'
);

select * from finish();
