begin;
select plan(13);
-- given a barrier of 100 members
select queue_create('callbacks');
select epoch from barrier_open('report', 100, 'callbacks', '{"id": 7}', p_callback_headers => '{"trace": "t1"}',
    p_callback_priority => 3, p_tenant => 'acme', p_run_id => 'run-1') \gset
-- when all but one arrive
select is(
    (select count(*) from generate_series(1, 99) n where barrier_arrive('report', :epoch, n, to_jsonb(n * 10)) = 'arrived'),
    99::bigint, 'each is told that it has arrived'
);
-- then nothing is said
select is(t.places('callbacks'), '', 'before the last one no callback is there');
select is(
    (select (arrived, failed, outstanding, state)::text from barrier_status('report')), '(99,0,1,open)',
    'and progress says so'
);
-- when the last one arrives
select is(barrier_arrive('report', :epoch, 100, '1000'), 'fired', 'the last one is told that it fired');
-- then the callback carries everything
select is(t.places('callbacks'), 'ready=1', 'there is one callback');
select is(
    (select payload - 'results' from queue_peek('callbacks')),
    jsonb_build_object(
        'barrier', 'report', 'epoch', :epoch, 'outcome', 'completed', 'reason', null, 'members', 100,
        'arrived', 100, 'failed', 0, 'failures', '[]'::jsonb, 'payload', '{"id": 7}'::jsonb
    ), 'it says what happened'
);
select is(
    (select payload -> 'results' from queue_peek('callbacks')),
    (select jsonb_agg(n * 10 order by n) from generate_series(1, 100) n), 'with the results in the order of members'
);
select is(
    (select (headers, priority, tenant, run_id)::text from queue_peek('callbacks')),
    (select ('{"trace": "t1"}'::jsonb, 3::smallint, 'acme', 'run-1')::text), 'as the opening described it'
);
select is(
    (select event_id from queue_peek('callbacks')),
    (select _barrier_event_id(event_prefix, :epoch, opened_at, 'callback') from installation, barrier),
    'its event_id follows from the epoch'
);
-- when members arrive again
select is(barrier_arrive('report', :epoch, 100, '1'), 'duplicate', 'a repeat of the last one is told duplicate');
select is(barrier_arrive('report', :epoch, 1, '1'), 'duplicate', 'and so is any other');
-- then nothing has changed
select is(t.places('callbacks'), 'ready=1', 'there is still one callback');
select is(
    (select result from barrier_results('report', :epoch, 99)), '1000'::jsonb, 'and the first result stands'
);
select * from finish();
rollback;
