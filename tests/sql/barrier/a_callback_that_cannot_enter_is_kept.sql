begin;
select plan(18);
select queue_create('q');
select queue_create('gone');
-- given a callback queue that takes nothing
create function pg_temp.refuse() returns trigger language plpgsql as
$$ begin if new.barrier is null then raise 'no room'; end if; return new; end $$;
create trigger refuse before insert on ready for each row execute function pg_temp.refuse();
select epoch from barrier_open('b', 1, 'q', '"pay"') \gset
-- when the last member arrives
select is(barrier_arrive('b', :epoch, 1, '"done"'), 'fire_failed', 'it is told that firing failed');
-- then the arrival stands
select is((select (state, arrived)::text from barrier_status('b')), '(fire_failed,1)', 'the arrival stands');
select is(barrier_arrive('b', :epoch, 1), 'duplicate', 'a repeat is told duplicate');
-- and the callback is a dead letter
select is(
    (select (channel, reason, last_error, payload ->> 'payload', state)::text from dead_letter),
    '(q,not_retryable,"[P0001] no room",pay,dead)', 'the callback is a dead letter'
);
select is(
    (select event_id from dead_letter),
    (select _barrier_event_id(event_prefix, :epoch, opened_at, 'callback') from installation, barrier where epoch = :epoch),
    'under its own event_id'
);
select is((select count(*) from incident where routine = '_barrier_close' and sqlstate = 'P0001'), 1::bigint, 'and noted');
-- when it is fired again in vain
select is(barrier_resolve('b', :epoch, 'fire'), 'fire_failed', 'another try may fail again');
select is((select count(*) from dead_letter where state = 'dead'), 1::bigint, 'and is one dead letter, not two');
-- and when there is room
drop trigger refuse on ready;
select is(barrier_resolve('b', :epoch, 'fire'), 'fired', 'then it fires');
select is((select (payload -> 'results', payload -> 'reason')::text from queue_peek('q')), '("[""done""]",null)', 'with its results');
select is((select count(*) from dead_letter where state = 'dead'), 0::bigint, 'and nothing is left dead');
select is(barrier_resolve('b', :epoch, 'fire'), 'fired', 'a repeat is told the same');
select is(t.places('q'), 'ready=1', 'and sends nothing');
-- given a callback queue that was dropped meanwhile
select epoch as other from barrier_open('c', 1, 'gone') \gset
select queue_drop('gone');
select is(barrier_arrive('c', :other, 1), 'fire_failed', 'a queue that is gone fails it too');
select is((select channel || ' ' || last_error from dead_letter where channel = 'gone'), 'gone [TG020] no queue named ''gone''', 'and keeps it');
-- given that it cannot be kept either
select queue_create('nowhere');
select epoch as bare from barrier_open('d', 1, 'nowhere') \gset
select queue_drop('nowhere');
create trigger refuse before insert on dead_letter for each row execute function pg_temp.refuse();
select is(barrier_arrive('d', :bare, 1, '1'), 'fire_failed', 'the arrival stands all the same');
select matches((select reason from barrier_status('d')), 'TG020.*nor could it be kept: .P0001. no room', 'the barrier says why');
drop trigger refuse on dead_letter;
select queue_create('nowhere');
select is(barrier_resolve('d', :bare, 'fire'), 'fired', 'and fires once it can');
select * from finish();
rollback;
