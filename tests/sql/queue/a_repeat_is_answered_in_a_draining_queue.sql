-- design 1.4
select plan(4);
select queue_create('q');

-- given messages sent under keys, and a drain that began since
select message_id as first from queue_send('q', '1', p_idempotency_key => 'a') \gset
select count(*) from queue_send_many('q', array['2', '3']::jsonb[], p_idempotency_key => 'b');
select queue_drain('q');

-- then a repeat gets the first answer
select is(
    (select s from queue_send('q', '1', p_idempotency_key => 'a') s),
    row(:first, 'deduplicated')::sent, 'a send is answered as the first time'
);
select results_eq(
    $$select outcome from queue_send_many('q', array['2', '3']::jsonb[], p_idempotency_key => 'b')$$,
    array['deduplicated', 'deduplicated'], 'so are many'
);
-- and what is new is refused
select throws_ok($$select queue_send('q', '1', p_idempotency_key => 'c')$$, 'TG023', null, 'a new key is refused');
select throws_ok($$select queue_send('q', '1')$$, 'TG023', null, 'so is a send without one');

select * from finish();
