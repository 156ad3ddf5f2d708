-- R44: what no retry can mend is kept, with the reason the worker gave
select plan(6);
select t.clock_stands();
select queue_create('q');
select count(*) from queue_send_many('q', array['1', '2', '3', '4']::jsonb[]);
select t.clock_moves('1 second');
select lease_id, min(message_id) as first from queue_claim('q', 4) group by 1 \gset
select is(
    (select s::text from queue_settle(:'lease_id', '{}', jsonb_build_array(
        jsonb_build_object('message_id', :first, 'error', 'not JSON', 'reason', 'malformed'),
        jsonb_build_object('message_id', :first + 1, 'error', 'no handler', 'reason', 'unknown_handler'),
        jsonb_build_object('message_id', :first + 2, 'error', 'no', 'retryable', false),
        jsonb_build_object('message_id', :first + 3, 'error', 'no', 'retryable', true, 'reason', 'not_retryable')
    )) s), '(0,0,4,f)', 'four reasons are four deaths'
);
select results_eq(
    $$select reason, last_error, state from dead_letter order by message_id$$,
    $$values ('malformed', 'not JSON', 'dead'), ('unknown_handler', 'no handler', 'dead'), ('not_retryable', 'no', 'dead'), ('not_retryable', 'no', 'dead')$$,
    'kept'
);
select throws_ok(
    format($$select queue_settle(%L, '{}', '[{"message_id": 1, "reason": "expired"}]')$$, :'lease_id'), 'TG010', null,
    'other reasons are refused'
);
-- the last attempt and the one before
select queue_send('q', '5', p_max_attempts => 2, p_backoff => '{"base": "0"}');
select t.clock_moves('1 second');
select is((select (queue_nack(lease_id)).retried from queue_claim('q')), 1, 'the one before the last');
select t.clock_moves('1 second');
select is((select (queue_nack(lease_id)).dead_lettered from queue_claim('q')), 1, 'the last');
select results_eq($$select reason, attempts::int from dead_letter where payload = '5'$$, $$values ('exhausted', 2)$$, 'is exhausted');
select * from finish();
