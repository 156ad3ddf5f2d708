begin;
select plan(17);
select t.clock_stands('2026-01-01 12:00+00');
select queue_create('q');
select queue_create('failed');
select epoch from barrier_open('b', 3, 'q', p_failure_queue => 'failed') \gset
-- then deadlines have their defaults
select is(
    (select (expires_at - opened_at, stalls_at - opened_at)::text from barrier_status('b')), '(06:00:00,02:30:00)',
    'it is stranded after 6 hours, or 2.5 without progress'
);
-- when a member arrives
select t.clock_moves('1 hour');
select barrier_arrive('b', :epoch, 2);
select is((select (progress_at - opened_at, stalls_at - opened_at)::text from barrier_status('b')), '(01:00:00,03:30:00)', 'progress puts the stall off');
-- when somebody says that it lives
select t.clock_moves('6 hours');
select is(barrier_resolve('b', :epoch, 'keep'), 'kept', 'keep is an answer');
select is((select (expires_at - opened_at, stalls_at - opened_at, state)::text from barrier_status('b')), '(09:30:00,09:30:00,open)', 'it gets its time');
select is((select look_at from barrier), (select expires_at from barrier), 'and is looked at when that is over');
-- when it is given up
select is(barrier_resolve('b', :epoch, 'failed'), 'failed', 'it can be given up');
select is(
    (select payload ->> 'reason' from queue_peek('failed')), 'incomplete: 2 of 3 members outstanding',
    'the failure queue hears what was outstanding'
);
select is((select (state, outcome)::text from barrier_status('b')), '(aborted,expired)', 'it has expired');
-- then the answer may be repeated and changes nothing
select is(barrier_resolve('b', :epoch, 'failed'), 'failed', 'a repeat is told the same');
select is(barrier_resolve('b', :epoch, 'completed') || barrier_resolve('b', :epoch, 'keep'), 'closedclosed', 'other answers come too late');
select is(t.places('failed'), 'ready=1', 'one message is there');
-- when it was completed elsewhere
select epoch as other from barrier_open('c', 3, 'q', p_failure_queue => 'failed') \gset
select is(barrier_resolve('c', :other, 'completed'), 'completed', 'it can be closed without a word');
select is(t.places('q') || t.places('failed'), 'ready=1', 'nothing is sent');
select is(barrier_arrive('c', :other, 1), 'closed', 'later arrivals are told closed');
-- and what is not sealed can be given up as well
select epoch as open from barrier_open('d', 1, 'q', p_sealed => false) \gset
select barrier_arrive('d', :open, 1);
select is(barrier_resolve('d', :open, 'failed'), 'failed', 'a barrier that was never sealed is given up');
select is((select reason from barrier_status('d')), 'never sealed: all of its 1 members had arrived', 'and says so');
select is(barrier_resolve('nowhere', 1, 'failed'), 'unknown', 'an unknown barrier is a value');
select * from finish();
rollback;
