-- R98: a callback that somebody requeued has been on its way, whatever became of it: recovery does not deliver it twice.
select plan(6);
select t.clock_stands();
select queue_create('q', '{"backoff_base": "0"}');
create function pg_temp.refuse() returns trigger language plpgsql as $$ begin raise 'no room'; end $$;
create trigger refuse before insert on tidegate.ready for each row execute function pg_temp.refuse();
select epoch from barrier_open('b', 1, 'q') \gset
-- given a callback that became a dead letter, was requeued, delivered, and died in the hands of its handler
select is(barrier_arrive('b', :epoch, 1), 'fire_failed', 'it failed');
drop trigger refuse on tidegate.ready;
select is((select outcome from dead_letter_requeue(array(select dead_letter_id from dead_letter))), 'requeued', 'it is requeued');
select lease_id as held from queue_claim('q') \gset
select queue_nack(:'held', p_error => 'the handler says no', p_retryable => false);
select is((select (state, reason, requeued_count)::text from dead_letter), '(dead,not_retryable,1)', 'it is dead again');
-- when recovery looks at its barrier
select is((select (refired, errors)::text from recovery_sweep()), '(1,{})', 'the barrier has fired');
select is((select (select state from barrier_status('b')) || ', ' || t.places('q')), 'fired, dead=1', 'but nothing entered the queue again');
select is((select (refired, kept)::text from recovery_sweep()), '(0,0)', 'and that is all');
select * from finish();
