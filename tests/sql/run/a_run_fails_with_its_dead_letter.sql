-- R102
select plan(26);
select t.clock_stands();
select queue_create('q', '{"max_attempts": 1}');
select topic_create('t', '{"max_attempts": 1}');
-- given runs of which some were opened to fail when a message dies
select run_open('mine', p_fail_on_dead_letter => true);
select run_open('child', 'mine');
select run_open('other');
select is(run_open('mine', p_fail_on_dead_letter => true), 'open', 'a repeat is the same');
select throws_ok($$select run_open('mine')$$, 'TG010', null, 'a run does not change its mind');
select throws_ok($$select run_open('x', p_fail_on_dead_letter => null)$$, 'TG010', null, 'nor is it without one');
select is((select failed + passed + put_off from run_sweep()), 0, 'there is nothing to do');

-- when messages of them die, and one without a run
select count(*) from unnest(array['mine', 'other', 'nobody opened', null]) r, queue_send('q', '1', p_run_id => r);
select queue_nack(lease_id, p_error => 'smtp 550') from queue_claim('q', 10) limit 1;
select is((select state from run_status('mine')), 'open', 'the settlement does not touch the run');
select is(
    (select array_agg(run_id) from dead_letter where fails_run_at is not null), array['mine'],
    'only of a run that asked for it the dead letter says so'
);
-- then the next sweep lets it fail, with its children
select is((select row(failed, passed, put_off, first_error)::text from run_sweep()), '(1,0,0,)', 'the run fails');
select matches(
    (select state || ': ' || reason from run_status('mine')), '^error: message \d+ of queue q died: exhausted: smtp 550$',
    'with the message as the reason'
);
select is((select state from run_status('child')), 'error', 'its children fail with it');
select is((select state from run_status('other')), 'open', 'no other does');
select is((select failed + passed from run_sweep()), 0, 'once');
select is((select outcome from run_finish('mine', 'completed')), 'changed', 'it may complete after all');

-- a run that has ended by then stays so
select run_open('late', p_fail_on_dead_letter => true);
select count(*) from queue_send('q', '1', p_run_id => 'late');
select queue_nack(lease_id) from queue_claim('q');
select run_finish('late', 'completed');
select is((select row(failed, passed)::text from run_sweep()), '(0,1)', 'it completed before');
select is((select state from run_status('late')), 'completed', 'and is never turned to error');
-- so does one whose message was sent back before
select run_open('again', p_fail_on_dead_letter => true);
select count(*) from queue_send('q', '1', p_run_id => 'again');
select queue_nack(lease_id) from queue_claim('q');
select count(*) from dead_letter_requeue(array(select max(dead_letter_id) from dead_letter));
select is((select row(failed, passed)::text from run_sweep()), '(0,1)', 'what was requeued has not died');
select is((select state from run_status('again')), 'open', 'so its run goes on');
-- until it dies once more
select queue_nack(lease_id) from queue_claim('q');
select is((select failed from run_sweep()), 1, 'dying again is dying');

-- a purge, a cancel and a discard are decisions of people
select run_open('purged', p_fail_on_dead_letter => true);
select count(*) from queue_send('q', '1', p_run_id => 'purged');
select queue_purge('q', 'dead_letter');
select count(*) from queue_send('q', '1', p_run_id => 'purged');
select queue_cancel('q', array(select message_id from queue_peek('q')));
select is((select failed + passed from run_sweep()), 0, 'they fail no run');
select is((select state from run_status('purged')), 'open', 'whatever they do to its messages');

-- an event does as a message does, and so does a callback that cannot enter its queue
select run_open('event', p_fail_on_dead_letter => true);
select count(*) from outbox_put('t', '1', p_run_id => 'event');
select outbox_settle(lease_id, '{}', jsonb_build_array(jsonb_build_object('message_id', message_id, 'error', 'x'))) from outbox_claim('t');
select run_open('callback', p_fail_on_dead_letter => true);
select queue_create('gone');
select epoch from barrier_open('b', 1, 'gone', p_run_id => 'callback') \gset
alter table channel disable trigger all;
delete from channel where name = 'gone';
alter table channel enable trigger all;
select is(barrier_arrive('b', :epoch, 1), 'fire_failed', 'nobody is there to hear of it');
select is((select failed from run_sweep()), 2, 'both runs fail');

-- one that cannot fail now holds up no other
select run_open('bad', p_fail_on_dead_letter => true);
select run_open('good', p_fail_on_dead_letter => true);
select count(*) from unnest(array['bad', 'good']) r, queue_send('q', '1', p_run_id => r);
select queue_nack(lease_id) from queue_claim('q', 10) limit 1;
create function public.refuse() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;
create trigger refuse before update on run for each row when (new.run_id = 'bad') execute function public.refuse();
select matches((select row(failed, passed, put_off, first_error)::text from run_sweep()), '1,0,1,"dead letter \d+: not now"', 'it is said');
drop trigger refuse on run;
select is((select failed + put_off from run_sweep()), 0, 'it is put off for a minute');
select t.clock_moves('1 minute');
select is((select failed from run_sweep()), 1, 'and then fails');

-- one that is canceled keeps what it has done, and does no more
select run_open(r, p_fail_on_dead_letter => true) from unnest(array['before', 'slow', 'behind']) r;
select count(*) from unnest(array['before', 'slow', 'behind']) r, queue_send('q', '1', p_run_id => r);
select queue_nack(lease_id) from queue_claim('q', 10) limit 1;
update dead_letter set fails_run_at = clock_now() - interval '1 second' where run_id = 'before';
update dead_letter set fails_run_at = clock_now() + interval '1 second' where run_id = 'behind';
select t.clock_moves('1 second');
create or replace function public.refuse() returns trigger language plpgsql
as $$ begin raise query_canceled; end $$;
create trigger refuse before update on run for each row when (new.run_id = 'slow') execute function public.refuse();
select is((select row(failed, passed, put_off)::text from run_sweep()), '(1,0,1)', 'it ends with what is done');
drop trigger refuse on run;
select is((select failed from run_sweep()), 1, 'and the next goes on');
select * from finish();
