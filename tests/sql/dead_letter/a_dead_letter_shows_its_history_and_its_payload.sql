-- R49, R53
select plan(6);
select t.clock_stands();
select queue_create('work', '{"max_attempts": 3, "inline_limit": 100, "backoff_base": "0 seconds"}');
select queue_send('work', to_jsonb(repeat('x', 500)));
create function pg_temp.fail(p_error text) returns void language plpgsql as $$
declare
    v_lease_id uuid;
begin
    perform t.clock_moves('1 minute');
    select lease_id into strict v_lease_id from queue_claim('work');
    perform queue_nack(v_lease_id, p_error => p_error, p_retry_in => '0');
end;
$$;
select pg_temp.fail('one'), pg_temp.fail('two'), pg_temp.fail('three');
select dead_letter_id as id from dead_letter \gset

select results_eq(
    format('select * from dead_letter_history(%s)', :id),
    $$select '2026-01-01 12:00+00'::timestamptz + n * interval '1 minute', n, (array['one', 'two', 'three'])[n] from generate_series(1, 3) as n$$,
    'each attempt with its time and its error'
);
select is_empty($$select * from dead_letter_history(999)$$, 'an unknown entry has none');
select is((select payload from dead_letter_list()), null, 'a list does without large payloads');
select is((select payload from dead_letter_peek(:id)), to_jsonb(repeat('x', 500)), 'a look at one does not');
select is(dead_letter_payload(:id), to_jsonb(repeat('x', 500)), 'the payload may be had alone');
select is_empty($$select * from dead_letter_peek(999)$$, 'an unknown entry is no row');

select * from finish();
