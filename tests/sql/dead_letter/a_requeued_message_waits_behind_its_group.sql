-- R57, R28: the group goes on; who comes back goes to its end
select plan(4);
select t.clock_stands();
select queue_create('work', '{"max_attempts": 1}');
create function pg_temp.claim() returns jsonb language plpgsql as $$
declare
    v_payloads jsonb;
begin
    perform t.clock_moves('1 second'), set_config('tidegate.tick', 'on', true);
    select jsonb_agg(payload) into v_payloads from queue_claim('work', 10);
    return v_payloads;
end;
$$;
select count(*) from queue_send_many('work', array['1', '2', '3']::jsonb[], p_group_key => 'g');
select pg_temp.claim();
select queue_nack(lease_id) from lease;

-- when the first, dead, is requeued while the second is at work
select is(pg_temp.claim(), '[2]', 'given a group that has moved on');
select is(
    (select r.requeued from dead_letter_requeue_matching(p_channel => 'work') as r), 1, 'a dead one of it may be requeued'
);
select queue_ack(lease_id) from lease;
select is(pg_temp.claim(), '[3]', 'it overtakes nobody');
select queue_ack(lease_id) from lease;
select is(pg_temp.claim(), '[1]', 'and comes last');

select * from finish();
