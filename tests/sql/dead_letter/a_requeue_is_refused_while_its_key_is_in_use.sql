-- R57, R58: a job key has one live message; the dead one stays dead until that is done
select plan(11);
select t.clock_stands();
select queue_create('work', '{"max_attempts": 1}');
create function pg_temp.die(p_error text) returns void language plpgsql as $$
declare
    v_lease_id uuid;
begin
    perform t.clock_moves('1 second');
    select lease_id into strict v_lease_id from queue_claim('work');
    perform queue_nack(v_lease_id, p_error => p_error);
end;
$$;
select queue_send('work', '1', p_job_key => 'k');
select pg_temp.die('first');
select dead_letter_id as id from dead_letter \gset
select is((select outcome from queue_send('work', '2', p_job_key => 'k')), 'inserted', 'given a dead message and a live one of its key');

select is((select outcome from dead_letter_requeue(array[:id])), 'key_in_use', 'a requeue is told');
select is((select r.key_in_use from dead_letter_requeue_matching() as r), 1, 'so is one by filter');
select results_eq(
    $$select state, requeued_count from dead_letter$$, $$values ('dead', 0)$$, 'and the entry stays as it was'
);
select is(t.places('work'), 'ready=1 dead=1', 'nothing was made');

-- when the live one dies, it lands in the entry of its key
select pg_temp.die('second');
select results_eq(
    $$select dead_letter_id, failure_count, last_error, payload from dead_letter$$,
    format($$values (%s::bigint, 2, 'second', '2'::jsonb)$$, :id),
    'one entry a key, with the newest payload'
);
select is(
    array(select error from dead_letter_history(:id)), array['first', 'second'], 'and the history of both'
);
select is((select outcome from dead_letter_requeue(array[:id])), 'requeued', 'which can go back now');
select is((select outcome from queue_send('work', '3', p_job_key => 'k', p_key_mode => 'dedupe')), 'deduplicated', 'and has the key');
select t.clock_moves('1 second');
select lease_id from queue_claim('work') \gset
select queue_ack(:'lease_id');
select is((select count(*) from job_key), 0::bigint, 'until it succeeds');
select is((select state from dead_letter), 'resolved', 'and resolves the entry');

select * from finish();
