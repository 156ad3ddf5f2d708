-- R7, R11, R12
select plan(8);
select t.clock_stands();
select topic_create('orders', '{"backoff_base": "0", "lease": "1 minute"}');
select count(*) from outbox_put_many('orders', array(select to_jsonb(n) from generate_series(1, 500) as n));

-- given a lease of 500
select lease_id from outbox_claim('orders', 500) limit 1 \gset
select max(message_id) as last_id from (select (unnest(messages)).message_id from lease) as m \gset

-- when 498 succeeded, one failed and one is named in neither
select is(
    (select s::text from outbox_settle(
        :'lease_id',
        array(select (unnest(messages)).message_id from lease except values (:last_id), (:last_id - 1)),
        jsonb_build_array(jsonb_build_object('message_id', :last_id, 'error', 'smtp 550'))
    ) as s),
    '(498,1,0,f)',
    'the answer counts what succeeded and what failed'
);
select is(t.places('orders'), 'ready=1 lease=1', 'what is named in neither stays leased');

-- then only the failed one is charged, and has its own error
select results_eq(
    $$select attempts::int, errors -> 0 ->> 'error', payload from ready$$,
    $$values (1, 'smtp 550', '500'::jsonb)$$,
    'the failure is charged and keeps its own error'
);
select is(
    (select s::text from outbox_settle(:'lease_id', array[:last_id - 1]) as s),
    '(1,0,0,f)',
    'the one left can be settled later'
);
select is(
    (select s::text from outbox_settle(:'lease_id', array[:last_id - 1]) as s),
    '(0,0,0,t)',
    'the end of a lease is told'
);

-- and an error may be absent or endless
select lease_id, message_id from outbox_claim('orders') \gset
select outbox_settle(
    :'lease_id', '{}', jsonb_build_array(jsonb_build_object('message_id', :message_id, 'error', null))
);
select is((select errors -> 1 ->> 'error' from ready), 'no error given', 'an error may be missing');
select t.clock_moves('1 second');
select lease_id, message_id, attempt from outbox_claim('orders') \gset
select outbox_settle(
    :'lease_id', '{}',
    jsonb_build_array(jsonb_build_object('message_id', :message_id, 'error', repeat('x', 100000)))
);
select is((select length(errors -> 2 ->> 'error') from ready), 1000, 'an endless one is cut');
select is(:attempt, 3, 'attempt is the number of failures and one');

select * from finish();
