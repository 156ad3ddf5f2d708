begin;
select plan(20);
select queue_create('q');
select queue_create('failed');
-- given one barrier of each policy
select epoch as a from barrier_open('a', 3, 'q', p_failure_queue => 'failed', p_failure_payload => '"undo"') \gset
select epoch as c from barrier_open('c', 3, 'q', p_policy => 'collect', p_failure_queue => 'failed') \gset
select epoch as m from barrier_open('m', 3, 'q', p_policy => 'quorum', p_quorum => 2, p_failure_queue => 'failed') \gset
select epoch as n from barrier_open('n', 3, 'q', p_policy => 'quorum', p_quorum => 2, p_failure_queue => 'failed') \gset
-- when a member fails under abort
select is(barrier_arrive('a', :a, 1, '1'), 'arrived', 'a member has arrived');
select is(barrier_fail('a', :a, 2, 'disk full'), 'aborted', 'the first failure ends an abort barrier');
select is(barrier_fail('a', :a, 3, 'too'), 'closed', 'the second finds it closed');
select is(barrier_arrive('a', :a, 3), 'closed', 'and so does an arrival');
select is(barrier_arrive('a', :a, 1), 'duplicate', 'who has arrived is told duplicate all the same');
-- then the failure queue hears of it
select is(
    (select payload from queue_peek('failed')),
    jsonb_build_object(
        'barrier', 'a', 'epoch', :a, 'outcome', 'aborted', 'reason', 'member 2 failed: disk full', 'members', 3,
        'arrived', 1, 'failed', 1, 'results', null, 'payload', 'undo',
        'failures', jsonb_build_array(jsonb_build_object('member', 2, 'error', 'disk full'))
    ), 'the failure queue hears who failed and why'
);
select isnt(
    (select event_id from queue_peek('failed')),
    (select _barrier_event_id(event_prefix, :a, opened_at, 'callback') from installation, barrier where epoch = :a),
    'under an identity of its own'
);
-- when members fail under collect
select is(barrier_fail('c', :c, 3, 'no'), 'failed', 'a failure is taken');
select is(barrier_arrive('c', :c, 3), 'duplicate', 'it was that member''s end');
select is(barrier_arrive('c', :c, 1, '[1]'), 'arrived', 'others arrive');
select is(barrier_fail('c', :c, 2), 'fired', 'and the last one fires, even by failing');
-- then failures are among the results, each in its place
select is(
    (select payload - 'barrier' - 'epoch' from queue_peek('q')),
    '{"outcome": "partial", "reason": null, "members": 3, "arrived": 1, "failed": 2, "results": [[1], null, null],
        "failures": [{"member": 2, "error": "no error given"}, {"member": 3, "error": "no"}], "payload": {}}'::jsonb,
    'the callback says which failed'
);
-- when a quorum is kept
select is(barrier_fail('m', :m, 1, 'x'), 'failed', 'one of three may fail');
select is(barrier_arrive('m', :m, 2) || barrier_arrive('m', :m, 3), 'arrivedfired', 'it fires when all have ended');
-- and when it is missed
select is(barrier_fail('n', :n, 1, 'x'), 'failed', 'one of three may fail');
select is(barrier_fail('n', :n, 2, 'y'), 'aborted', 'two may not: it ends at once');
select is((select (state, outcome)::text from barrier_status('n')), '(aborted,quorum_missed)', 'with its outcome');
-- and when it turns out at the seal
select epoch as s from barrier_open('s', 3, 'q', p_policy => 'quorum', p_quorum => 3, p_sealed => false, p_failure_queue => 'failed') \gset
select is(barrier_fail('s', :s, 1, 'x'), 'failed', 'before the seal more may come');
select is(barrier_seal('s', :s), 'aborted', 'after it nothing can help');
select is(t.places('q') || ' ' || t.places('failed'), 'ready=2 ready=3', 'each ended with one message');
select * from finish();
rollback;
