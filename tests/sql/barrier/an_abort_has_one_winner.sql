begin;
select plan(9);
select queue_create('q');
select queue_create('failed');
select epoch from barrier_open('b', 3, 'q', p_failure_queue => 'failed') \gset
select barrier_arrive('b', :epoch, 1);
-- when it is aborted
select is(barrier_abort('b', :epoch, 'user pressed stop'), 'aborted', 'the first one aborts');
select is(barrier_abort('b', :epoch, 'me too'), 'closed', 'the second finds it closed');
-- then the reason is the winner's
select is((select (state, reason)::text from barrier_status('b')), '(aborted,"user pressed stop")', 'with the reason of the first');
select is((select payload ->> 'reason' from queue_peek('failed')), 'user pressed stop', 'which the failure queue hears');
-- and it never fires
select is((select string_agg(barrier_arrive('b', :epoch, n), ' ') from generate_series(1, 3) n), 'duplicate closed closed', 'nobody arrives any more');
select is(barrier_seal('b', :epoch), 'closed', 'a seal finds it closed');
select is(t.places('q') || t.places('failed'), 'ready=1', 'no callback, one failure message');
select is(barrier_abort('nowhere', 1) || ' ' || barrier_abort('b', :epoch + 1), 'unknown unknown', 'what never was is unknown');
-- and a fired one cannot be aborted
select epoch as done from barrier_open('b', 0, 'q') \gset
select is(barrier_abort('b', :done), 'closed', 'a fired one cannot be aborted');
select * from finish();
rollback;
