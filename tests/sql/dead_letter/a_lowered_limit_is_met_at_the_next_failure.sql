-- R51, R54: what had more attempts than a queue allows now is buried when it next fails, and handed out until then
select plan(5);
select t.clock_stands();
select queue_create('work', '{"max_attempts": 5, "backoff_base": "0 seconds"}');
select queue_send('work', '1');
create function pg_temp.fail() returns settled language plpgsql as $$
declare
    v_lease_id uuid;
begin
    perform t.clock_moves('1 second');
    select lease_id into strict v_lease_id from queue_claim('work');
    return queue_nack(v_lease_id, p_retry_in => '0');
end;
$$;
select pg_temp.fail(), pg_temp.fail(), pg_temp.fail();
select queue_configure('work', '{"max_attempts": 2}');
select cleanup_sweep();
select is(t.places('work'), 'ready=1', 'a message with three failures is not captured by a change of policy');
select t.clock_moves('1 second');
select is((select attempt from queue_claim('work')), 4, 'it gets the attempt that was promised');
select is((select s::text from lease as l, queue_nack(l.lease_id) as s), '(0,0,1,f)', 'whose failure is its last');
select is((select attempts::int from dead_letter), 4, 'with all its attempts');
select is((select reason from dead_letter), 'exhausted', 'as exhausted');

select * from finish();
