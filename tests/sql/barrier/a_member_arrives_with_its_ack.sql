begin;
select plan(26);
select queue_create('work', '{"max_attempts": 1, "lease": "1 minute"}');
select queue_create('q');
select queue_create('failed');
-- given a message for each member
select epoch from barrier_send('b', 'work', array['"a"', '"b"', '"c"', '"d"']::jsonb[], 'q', p_priority => 2, p_headers => '{"h": 1}') \gset
select is(t.places('work'), 'ready=4', 'each member has its message');
-- when one is claimed
select lease_id as one, message_id as id, barrier, member, payload, (priority, headers)::text as options from queue_claim('work') \gset
select is(format('%s %s %s %s', :'barrier', :member, :'payload', :'options'), 'b 1 "a" (2,"{""h"": 1}")', 'a delivery says whose it is');
-- and acked with a result
select is((select acked from queue_ack(:'one', p_result => '{"rows": 3}')), 1, 'it is acked');
-- then its member has arrived
select is((select (member, result)::text from barrier_results('b', :epoch)), '(1,"{""rows"": 3}")', 'and has arrived with it');
select is((select lost from queue_ack(:'one', p_result => '1')), true, 'a repeat is lost');
select is((select arrived from barrier_status('b')), 1, 'and counts nothing twice');
-- when a batch is acked in parts
select lease_id as batch from queue_claim('work', 2) limit 1 \gset
select queue_ack(:'batch', (select array_agg(m.message_id) from lease, unnest(messages) m where lease_id = :'batch' and m.member = 3));
select is((select outstanding from barrier_status('b')), 2, 'only those named arrive');
select queue_ack(:'batch');
-- and the last one comes
select lease_id as last from queue_claim('work') \gset
select queue_ack(:'last', p_result => '4');
select is((select payload -> 'results' from queue_peek('q')), '[{"rows": 3}, null, null, 4]'::jsonb, 'the last ack fires');
select is(t.places('work'), '', 'and no message is left');

-- when a message dies
select epoch as e2 from barrier_send('b', 'work', array['1', '2']::jsonb[], 'q', p_failure_queue => 'failed') \gset
select lease_id as dying from queue_claim('work') \gset
select is((select dead_lettered from queue_nack(:'dying', p_error => 'smtp 550')), 1, 'its last attempt fails');
-- then its member has failed
select is(
    (select (state, outcome, reason)::text from barrier_status('b')),
    '(aborted,aborted,"member 1 failed: exhausted: smtp 550")', 'its member fails with the error'
);
select is(t.places('failed'), 'ready=1', 'and the failure queue hears of it');
-- and later ones of the same barrier end as they would
select lease_id as late from queue_claim('work') \gset
select is((select acked from queue_ack(:'late')), 1, 'an ack of a closed barrier''s member is an ack');
select is((select arrived from barrier_status('b')), 0, 'which counts nothing');

-- when an attempt fails that was not the last
select epoch as e3 from barrier_send('c', 'work', array['1']::jsonb[], 'q', p_max_attempts => 2) \gset
select lease_id as first from queue_claim('work') \gset
select queue_nack(:'first', p_retry_in => '0');
select is((select (state, outstanding)::text from barrier_status('c')), '(open,1)', 'the member is still awaited');
-- and the message is cancelled
select is((select outcome from queue_cancel('work', array(select message_id from queue_peek('work')))), 'cancelled', 'a cancel ends it');
select is((select reason from barrier_status('c')), 'member 1 failed: cancelled: cancelled while it waited', 'and fails its member');
-- when messages are purged
select epoch as e4 from barrier_send('d', 'work', array['1']::jsonb[], 'q') \gset
select queue_purge('work', 'dead_letter');
select is((select reason from barrier_status('d')), 'member 1 failed: purged: the queue was purged', 'a purge fails members');
select epoch as e5 from barrier_send('e', 'work', array['1']::jsonb[], 'q') \gset
select queue_purge('work', 'discard');
select is((select reason from barrier_status('e')), 'member 1 failed: discarded', 'and so does a discard: nothing waits for ever');

-- when a lease of one expires for the last time
select t.clock_stands();
select epoch as e6 from barrier_send('f', 'work', array['1']::jsonb[], 'q') \gset
select count(*) from queue_claim('work') \gset
select t.clock_moves('2 minutes');
select _lease_expire(channel_id, '-infinity', 10) from channel where name = 'work';
select matches((select reason from barrier_status('f')), '^member 1 failed: expired: lease expired', 'an expiry that was the last fails its member');

-- when one batch has some that arrive and some that die
select epoch as e7 from barrier_send('g', 'work', array['1', '2', '3']::jsonb[], 'q', p_policy => 'collect') \gset
select lease_id as mixed from queue_claim('work', 3) limit 1 \gset
select queue_settle(:'mixed', array_agg(m.message_id) filter (where m.member <> 2),
    jsonb_agg(jsonb_build_object('message_id', m.message_id, 'error', 'bad')) filter (where m.member = 2))
from lease, unnest(messages) m where lease_id = :'mixed';
select is((select (state, outcome, arrived, failed)::text from barrier_status('g')), '(fired,partial,2,1)', 'one settlement ends all');

-- when a former epoch's message is acked
select epoch as e8 from barrier_send('h', 'work', array['1']::jsonb[], 'q') \gset
select lease_id as former from queue_claim('work') \gset
select epoch as e9 from barrier_open('h', 1, 'q') \gset
select is((select acked from queue_ack(:'former')), 1, 'a stale one is acked');
select is((select (state, outstanding, epoch)::text from barrier_status('h')), format('(open,1,%s)', :e9), 'and leaves the new epoch alone');

-- when a dead member is requeued
select epoch as e10 from barrier_send('i', 'work', array['1', '2']::jsonb[], 'q', p_policy => 'collect') \gset
select lease_id as dies from queue_claim('work') \gset
select queue_nack(:'dies');
select count(*) from dead_letter_requeue(array(select max(dead_letter_id) from dead_letter)) \gset
select lease_id as rest from queue_claim('work', 5) limit 1 \gset
select is((select acked from queue_ack(:'rest')), 2, 'its child is worked on');
select is((select (state, failed, arrived)::text from barrier_status('i')), '(fired,1,1)', 'and its member stays failed');
-- and plain messages pay nothing
select count(*) from queue_send('work', '1') \gset
select count(*) from queue_claim('work') \gset
select is((select is_plain from lease), true, 'a lease without members is plain');
select * from finish();
rollback;
