-- R91, R92, R99. Of origin r: "failed read retains row", "API failure leaves row", "unsuccessful write keeps handle", "dedup
-- reclaimed". There the status was read and written by recovery; here a question is put, and whoever answers has read and written it.
select plan(27);
select t.clock_stands();
select queue_create('ask'), queue_create('q'), queue_create('failures');
create function pg_temp.swept(out did text) language sql
as $$ select format('%s seen, %s asked, %s failed, %s kept, %s', s.barriers, s.asked, s.failed, s.kept, s.errors) from recovery_sweep() s $$;
-- given a barrier whose status lives elsewhere, and whose run nobody has opened here
select epoch from barrier_open('b', 3, 'q', p_expire_queue => 'ask', p_failure_queue => 'failures', p_failure_payload => '{"of": 7}', p_run_id => 'theirs') \gset
select barrier_arrive('b', :epoch, 2, '"two"');
select t.clock_moves('2.5 hours');
-- when it has stalled
select is(pg_temp.swept(), '1 seen, 1 asked, 0 failed, 0 kept, {}', 'it is asked about');
select is(
    (select payload from queue_peek('ask')),
    jsonb_build_object(
        'barrier', 'b', 'epoch', :epoch, 'outcome', 'expired', 'reason', 'incomplete: 2 of 3 members outstanding', 'members', 3,
        'arrived', 1, 'failed', 0, 'outstanding', 2, 'run_id', 'theirs', 'payload', '{"of": 7}'::jsonb
    ), 'the question says what is outstanding'
);
select event_id as first_id from queue_peek('ask') \gset
select is((select state from barrier_status('b')), 'open', 'the row stays');
select is(pg_temp.swept(), '0 seen, 0 asked, 0 failed, 0 kept, {}', 'and is not asked about again at once');
-- when nobody answers: whoever read or wrote that status has failed
create function pg_temp.later(p_by interval) returns integer language plpgsql
as $$ begin perform t.clock_moves(p_by); return (select s.asked from recovery_sweep() s); end $$;
select is(
    array(select pg_temp.later(m * interval '1 minute') from unnest('{0.9, 0.1, 1.9, 0.1, 3.9, 0.1}'::float[]) m), '{0,1,0,1,0,1}',
    'the next questions come later each time'
);
select is(t.places('ask'), 'ready=1', 'one question stands, however often it is put');
select is((select event_id from queue_peek('ask')), :'first_id'::uuid, 'the first one');
-- when the question was lost: taken, and not answered
select queue_ack(lease_id) from queue_claim('ask');
select t.clock_moves('40 minutes');
select is(pg_temp.swept(), '1 seen, 1 asked, 0 failed, 0 kept, {}', 'it is put anew');
select isnt((select event_id from queue_peek('ask')), :'first_id'::uuid, 'as another event: an inbox lets it through');
select is(barrier_arrive('b', :epoch, 2), 'duplicate', 'the row stands with all that it knows: who has arrived');
-- answer: it lives
select is(barrier_resolve('b', :epoch, 'keep'), 'kept', 'kept');
select is((select (look_count, look_at - clock_now())::text from barrier), '(0,02:30:00)', 'it gets its time');
select queue_ack(lease_id) from queue_claim('ask');
-- answered twice, answered after a re-open
select t.clock_moves('3 hours');
select recovery_sweep();
select is(t.places('ask'), 'ready=1', 'its next expiry is asked about');
select epoch as other from barrier_open('b', 1, 'q', p_expire_queue => 'ask', p_failure_queue => 'failures') \gset
select is(barrier_resolve('b', :epoch, 'failed'), 'stale', 'an answer about a former epoch is stale');
select is((select (state, epoch = :other)::text from barrier_status('b')), '(open,t)', 'and tears nothing down');
select t.clock_moves('3 hours');
select recovery_sweep();
select is(t.places('ask'), 'ready=2', 'each epoch has a question of its own');
select is(barrier_resolve('b', :other, 'failed') || barrier_resolve('b', :other, 'failed'), 'failedfailed', 'an answer may come twice');
select is(t.places('failures'), 'ready=1', 'and is heard once');
select t.clock_moves('3 hours');
select is(pg_temp.swept(), '0 seen, 0 asked, 0 failed, 0 kept, {}', 'what was answered is over');

-- a question that cannot be put leaves the row, and is reported
select epoch as third from barrier_open('c', 1, 'q', p_expire_queue => 'ask') \gset
select queue_drop('ask', 'discard');
select t.clock_moves('3 hours');
select is(pg_temp.swept(), '1 seen, 0 asked, 0 failed, 1 kept, {"c": "TG020: no queue named ''ask''"}', 'a queue that is gone');
select queue_create('ask');
select queue_drain('ask');
select t.clock_moves('1 minute');
select matches(pg_temp.swept(), '1 seen, 0 asked, 0 failed, 1 kept, .*TG023', 'or draining');
select queue_resume('ask');
select t.clock_moves('1 minute');
select is(pg_temp.swept(), '0 seen, 0 asked, 0 failed, 0 kept, {}', 'it comes back later each time');
select t.clock_moves('1 minute');
select is(pg_temp.swept(), '1 seen, 1 asked, 0 failed, 0 kept, {}', 'and goes on');
-- where it lives elsewhere, but its run is known here and has ended, there is nothing to ask
select run_open('known');
select barrier_open('d', 1, 'q', p_expire_queue => 'ask', p_run_id => 'known');
select run_finish('known', 'completed');
select barrier_resolve('c', :third, 'completed');
select t.clock_moves('3 hours');
select is((select (asked, reclaimed)::text from recovery_sweep()), '(0,1)', 'a run that is known to have ended is answer enough');
-- who has arrived is forgotten if and only if the barrier is
select is((select count(*) from barrier_slot where epoch = :other), 1::bigint, 'members stand while the barrier does');
select t.clock_moves('8 days');
do $$ begin for n in 1 .. 5 loop perform tidegate.cleanup_sweep(); end loop; end $$;
select is((select count(*) from barrier_slot), 0::bigint, 'and go with it');
select is((select count(*) from barrier), 0::bigint, 'which is closed');
select * from finish();
