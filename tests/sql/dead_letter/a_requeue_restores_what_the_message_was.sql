-- R57: identity, priority, group, key, headers, run, tenant, policy and history come back with it
select plan(8);
select t.clock_stands();
select queue_create('work', '{"inline_limit": 100}');
select queue_send(
    'work', to_jsonb(repeat('x', 500)), p_headers => '{"trace": "t"}', p_priority => 3, p_group_key => 'g', p_job_key => 'k',
    p_run_id => 'r', p_tenant => 'acme', p_max_attempts => 1, p_backoff => '{"base": "9 seconds"}',
    p_event_id => '11111111-1111-4111-8111-111111111111'
);
select t.clock_moves('1 second');
select lease_id, event_id from queue_claim('work') \gset
select queue_nack(:'lease_id', p_error => 'boom');
select dead_letter_id as id from dead_letter \gset
select is((select group_key || job_key from dead_letter), 'gk', 'given one that had everything');

select is((select outcome from dead_letter_requeue(array[:id])), 'requeued', 'when it is requeued');
select t.clock_moves('1 second');
select results_eq(
    $$select attempt, max_attempts, payload, headers, priority::int, group_key collate "default", job_key collate "default", run_id,
        tenant, event_id
    from queue_claim('work')$$,
    $$values (
        1, 1, to_jsonb(repeat('x', 500)), '{"trace": "t"}'::jsonb, 3, 'g', 'k', 'r', 'acme',
        '11111111-1111-4111-8111-111111111111'::uuid
    )$$,
    'a worker gets all of it again, the large payload too'
);
select is((select (messages[1]).backoff from lease), '{"base": "9 seconds"}'::jsonb, 'with its own policy');
select is((select count(*) from body), 2::bigint, 'entry and child each own a body');
select lease_id from lease \gset
select queue_nack(:'lease_id', p_error => 'boom again');
select results_eq(
    format('select attempt, error from dead_letter_history(%s)', :id),
    $$values (1, 'boom'), (1, 'boom again')$$,
    'and its history goes on'
);

-- when the next one succeeds
select outcome from dead_letter_requeue(array[:id]);
select t.clock_moves('1 second');
select lease_id from queue_claim('work') \gset
select queue_ack(:'lease_id');
select is(dead_letter_payload(:id), to_jsonb(repeat('x', 500)), 'the entry still has its payload');
select is((select count(*) from body), 1::bigint, 'and nobody else has');

select * from finish();
