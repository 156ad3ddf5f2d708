-- R52, R53
select plan(7);
select t.clock_stands();
select queue_create('q', '{"max_attempts": 1, "inline_limit": 40}');
create function pg_temp.dies(p_payload jsonb, p_key text) returns void language plpgsql as $$
begin
    perform queue_send('q', p_payload, p_job_key => p_key, p_tenant => 't' || length(p_payload::text));
    perform t.clock_moves('1 second');
    set local tidegate.tick = 'on';
    perform queue_nack(lease_id, p_error => 'no ' || (p_payload #>> '{}')) from queue_claim('q');
end;
$$;
select pg_temp.dies(to_jsonb(repeat('1', 60)), 'k');
select pg_temp.dies('"2"', 'k');
select pg_temp.dies('"x"', 'other');
select results_eq(
    $$select job_key::text collate "default", failure_count, payload, last_error, tenant, jsonb_array_length(errors) from dead_letter order by 1$$,
    $$values ('k', 2, '"2"'::jsonb, 'no 2', 't3', 2), ('other', 1, '"x"'::jsonb, 'no x', 't3', 1)$$,
    'the second lands in the first''s entry, refreshed, with both errors'
);
select is((select count(*) from body), 0::bigint, 'and the first''s body is gone');
select count(*) from dead_letter_discard(array(select dead_letter_id from dead_letter where job_key = 'k'), 'enough');
select pg_temp.dies('"3"', 'k');
select results_eq(
    $$select state, failure_count, payload from dead_letter where job_key = 'k' order by dead_letter_id$$,
    $$values ('discarded', 2, '"2"'::jsonb), ('dead', 1, '"3"'::jsonb)$$, 'one that is closed is left as it was'
);
-- a requeued one that dies goes back to its own entry
select count(*) from dead_letter_requeue(array(select dead_letter_id from dead_letter where state = 'dead' and job_key = 'k'));
select t.clock_moves('1 second');
select is((select (queue_nack(lease_id)).dead_lettered from queue_claim('q')), 1, 'a child dies');
select results_eq(
    $$select state, failure_count from dead_letter where job_key = 'k' and payload = '"3"'$$, $$values ('dead', 2)$$, 'in its parent''s entry'
);
-- many at once, of which two share a key
select lives_ok(
    $$select _message_bury(
        c.channel_id, array(select row(0, 0, n, clock_now(), to_jsonb(n), null, null, null, null, null, null, null, null, null, null,
            'same', null, null, null, null, null, null)::message from generate_series(1, 3) n),
        array_fill('exhausted'::text, array[3]), array_fill('no'::text, array[3])
    ) from channel c where false$$, 'a set is buried as one'
);
select lives_ok(
    $$select _message_bury(
        c.channel_id, array(select row(1, 0, n, clock_now(), to_jsonb(n), null, null, null, null, null, null, null, null, null, null,
            'other', null, null, null, null, null, null)::message from generate_series(1, 3) n),
        array_fill('exhausted'::text, array[3]), array_fill('no'::text, array[3])
    ) from channel c where c.name = 'q'$$, 'of one key too'
);
select * from finish();
