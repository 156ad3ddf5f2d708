-- R110, R111, R113
select plan(33);
select t.clock_stands();
select queue_create('q', '{"lease": "1 minute", "backoff_base": "0"}');
select queue_create('other', '{"archive": true}');
select topic_create('events');
select run_open('r');

-- given messages of a run in every place
select queue_send('q', '"held"', p_run_id => 'r', p_group_key => 'g');
select t.clock_moves('1 second');
select queue_claim('q', p_lease_id => '11111111-1111-4111-8111-111111111111');
select queue_send('q', '"blocked"', p_run_id => 'r', p_group_key => 'g');
select queue_send('q', '"of nobody"', p_group_key => 'g');
select queue_send('q', '"keyed"', p_job_key => 'k');
select t.clock_moves('1 second');
select queue_claim('q', p_lease_id => '22222222-2222-4222-8222-222222222222');
select queue_send('q', '"follow-up"', p_run_id => 'r', p_job_key => 'k');
select queue_send('q', '"scheduled"', p_run_id => 'r', p_run_at => clock_now() + interval '1 hour');
select queue_send('q', '"ready"', p_run_id => 'r');
select queue_send('q', '"large"', p_run_id => 'r', p_headers => jsonb_build_object('x', repeat('x', 10)));
select queue_send_many('other', array['"many"', '"many"']::jsonb[], p_run_id => 'r');
select outbox_put('events', '"event"', p_run_id => 'r');
select outbox_put_many('events', array['"event"']::jsonb[], p_run_at => clock_now() + interval '1 hour', p_run_id => 'r');
select queue_send('q', '"other run"', p_run_id => 'r2');
select is((select waiting from run_status('r')), 8::bigint, 'what waits is counted');

-- when it is cancelled
select results_eq(
    $$select outcome, runs, removed from run_cancel('r', 'not wanted')$$, $$values ('cancelled', 1, 9::bigint)$$,
    'all that waits of it is removed, follow-ups too'
);
select results_eq(
    $$select payload #>> '{}', reason, state, last_error from dead_letter order by 1$$,
    $$select u.payload, 'cancelled', 'discarded', 'the run was cancelled'
        from unnest(array['blocked', 'event', 'event', 'follow-up', 'large', 'many', 'many', 'ready', 'scheduled']) u (payload)$$,
    'and kept, for nobody to look at'
);
select is(dead_letter_count(), 0::bigint, 'nothing is dead');
select is(t.total('q', 'cancelled') + t.total('other', 'cancelled') + t.total('events', 'cancelled'), 9::bigint, 'it is counted');
select is((select waiting from run_status('r')), 0::bigint, 'nothing waits');
select results_eq(
    $$select payload #>> '{}' from queue_peek('q') union all select payload #>> '{}' from queue_peek('q', p_place => 'blocked')$$,
    $$values ('other run'), ('of nobody')$$, 'what is of others stays'
);

-- what is leased
select is(
    (select e.cancelled from queue_extend('11111111-1111-4111-8111-111111111111') e),
    array(select m.message_id from lease l, unnest(l.messages) m where l.run_ids is not null),
    'its holder is told by the next extension'
);
select is(
    (select e.cancelled from queue_extend('22222222-2222-4222-8222-222222222222') e), '{}'::bigint[], 'and nobody else'
);
select is(
    (select n.dead_lettered from queue_nack('11111111-1111-4111-8111-111111111111') n), 1, 'a failure is no retry'
);
select t.clock_moves('1 second');
select queue_claim('q', 10, p_lease_id => '33333333-3333-4333-8333-333333333333');
select results_eq(
    $$select m.payload #>> '{}' from lease l, unnest(l.messages) m where lease_id = '33333333-3333-4333-8333-333333333333' order by 1$$,
    $$values ('of nobody'), ('other run')$$, 'and its group goes on'
);
select queue_ack('22222222-2222-4222-8222-222222222222');
select is_empty('select * from job_key', 'nothing follows');

-- what is sent
select results_eq(
    $$select * from queue_send('q', '"late"', p_run_id => 'r')$$, $$values (null::bigint, 'cancelled')$$, 'a send is told'
);
select results_eq(
    $$select * from queue_send('q', '"late"', p_run_id => 'r', p_job_key => 'k')$$, $$values (null::bigint, 'cancelled')$$,
    'with a key too'
);
select results_eq(
    $$select * from queue_send_many('q', array['1', '2']::jsonb[], p_run_id => 'r')$$,
    $$values (null::bigint, 'cancelled'), (null, 'cancelled')$$, 'and so is a send of many'
);
select results_eq(
    $$select message_id is null, outcome
        from queue_send_specs('q', '[{"payload": 1, "run_id": "r"}, {"payload": 2}]')$$,
    $$values (true, 'cancelled'), (false, 'inserted')$$, 'one by one'
);
select results_eq(
    $$select * from outbox_put('events', '"late"', p_run_id => 'r')$$, $$values (null::bigint, 'cancelled')$$, 'and a put'
);
select is((select count(*) from ready where run_id = 'r'), 0::bigint, 'nothing came in');
select is_empty('select * from job_key', 'and no key was taken');
select is((select outcome from queue_send('q', '"fine"', p_run_id => 'r3')), 'inserted', 'another run goes on');
select throws_ok($$select queue_send('q', null, p_run_id => 'r')$$, 'TG010', null, 'a mistake is a mistake all the same');

-- a repeat of a send answers as the first
select queue_send('q', '"once"', p_run_id => 'r4', p_idempotency_key => 'i');
select message_id as first_id from ready where run_id = 'r4' \gset
select run_cancel('r4');
select results_eq(
    $$select * from queue_send('q', '"once"', p_run_id => 'r4', p_idempotency_key => 'i')$$,
    format($$values (%s::bigint, 'deduplicated')$$, :'first_id'), 'its key knows the first id'
);
select results_eq(
    $$select * from queue_send('q', '"other"', p_run_id => 'r4', p_idempotency_key => 'j')$$,
    $$values (null::bigint, 'cancelled')$$, 'another key is not used'
);
select results_eq(
    $$select outcome from queue_send_many('q', array['1', '2']::jsonb[], p_run_id => 'r4', p_idempotency_key => 'm')$$,
    $$values ('cancelled'), ('cancelled')$$, 'nor are those of many'
);
select is((select count(*) from idempotency_key), 1::bigint, 'keys are kept of what was sent');

-- a run that completed has not been cancelled
select queue_send('q', '"news"', p_run_id => 'r5');
select run_open('r5');
select run_finish('r5', 'completed');
select is((select outcome from queue_send('q', '"more news"', p_run_id => 'r5')), 'inserted', 'what it left behind is sent');
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('q', 10) where run_id = 'r5'), 2::bigint, 'and delivered');

-- released, expired and acked
select queue_create('e', '{"lease": "1 minute", "backoff_base": "0"}');
select queue_send_many('e', array['1', '2', '3', '4']::jsonb[], p_run_id => 'r6');
select t.clock_moves('1 second');
select lease_id, array_agg(message_id order by message_id) as ids from queue_claim('e', 4) group by 1 \gset
select run_cancel('r6');
select is((select acked from queue_ack(:'lease_id', (:'ids'::bigint[])[1:1])), 1, 'what is done is done');
select is((select retried from queue_release(:'lease_id', (:'ids'::bigint[])[2:2])), 0, 'what is given back does not come again');
select t.clock_moves('2 minutes');
select is_empty($$select * from queue_claim('e', 10)$$, 'nor what expires');
select is((select count(*) from dead_letter where run_id = 'r6' and state = 'discarded'), 3::bigint, 'they are cancelled');
select is(t.total('e', 'expired'), 0::bigint, 'which is no expiry');
select is(t.places('e'), '', 'and nothing is left');
select * from finish();
