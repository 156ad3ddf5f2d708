-- R131, R134
select plan(8);
select t.clock_stands();
select topic_create('orders', '{"backoff_base": "0", "max_attempts": 2}');
select count(*) from outbox_put_many('orders', array(select to_jsonb(n) from generate_series(1, 10) as n));

-- given a settlement of every kind, done twice
create function pg_temp.settle(out acked integer, out retried integer, out dead integer)
language plpgsql
as $$
declare
    v_lease uuid;
    v_ids bigint[];
    v_settled record;
begin
    perform t.clock_moves('1 second');
    select lease_id, array_agg(message_id order by message_id) into v_lease, v_ids
    from outbox_claim('orders', 6) group by 1;
    select * into v_settled from outbox_settle(
        v_lease, v_ids[1:3],
        jsonb_build_array(
            jsonb_build_object('message_id', v_ids[4], 'error', 'again'),
            jsonb_build_object('message_id', v_ids[5], 'error', 'never', 'retryable', false)
        )
    );
    perform outbox_release(v_lease, v_ids[6:6]);
    acked := v_settled.acked;
    retried := v_settled.retried;
    dead := v_settled.dead_lettered;
end;
$$;
select results_eq($$select * from pg_temp.settle()$$, $$values (3, 1, 1)$$, 'the answer is what happened');
select is(t.total('orders', 'acked'), 3::bigint, 'acked is counted');
select is(t.total('orders', 'retried'), 1::bigint, 'retried is counted');
select is(t.total('orders', 'dead_lettered'), 1::bigint, 'dead_lettered is counted');
select is(t.total('orders', 'released'), 1::bigint, 'released is counted');

-- when a settlement is rolled back
begin;
select pg_temp.settle();
rollback;
select is(t.total('orders', 'acked'), 3::bigint, 'its counts go with its effect');
select pg_temp.settle();
select is(t.total('orders', 'acked'), 6::bigint, 'and never run ahead of it');
select is(
    t.total('orders', 'acked') + t.total('orders', 'dead_lettered')
    + (select count(*) from ready) + (select count(*) from scheduled),
    10::bigint,
    'in the end every event is accounted for'
);

select * from finish();
