-- R10, R34
select plan(9);
select t.clock_stands();
select topic_create('orders', '{"backoff_base": "0"}');
select is(
    (select max_attempts from channel where name = 'orders'), 10, 'a topic allows ten deliveries by default'
);

create function pg_temp.fail_once(p_topic text) returns text
language plpgsql
as $$
declare
    v_delivery record;
    v_settled record;
begin
    perform t.clock_moves('1 second');
    select * into v_delivery from outbox_claim(p_topic, 1);
    if not found then
        return 'nothing to claim';
    end if;
    select * into v_settled
    from outbox_settle(
        v_delivery.lease_id, '{}',
        jsonb_build_array(jsonb_build_object('message_id', v_delivery.message_id, 'error', 'boom'))
    );
    return format('%s: retried %s, dead %s', v_delivery.attempt, v_settled.retried, v_settled.dead_lettered);
end;
$$;

-- given a limit of three
select topic_configure('orders', '{"max_attempts": 3}');
select outbox_put('orders', '{}');
select is(pg_temp.fail_once('orders'), '1: retried 1, dead 0', 'the first failure is retried');
select is(pg_temp.fail_once('orders'), '2: retried 1, dead 0', 'so is the one before the last');
select is(pg_temp.fail_once('orders'), '3: retried 0, dead 1', 'the third is terminal');
select is(pg_temp.fail_once('orders'), 'nothing to claim', 'and it never runs again');
select results_eq(
    $$select attempts::int, reason, last_error from dead_letter$$,
    $$values (3, 'exhausted', 'boom')$$,
    'the dead letter records the terminal count'
);

-- given a limit of one, and none at all
select topic_create('once', '{"max_attempts": 1, "backoff_base": "0"}');
select topic_create('ever', '{"max_attempts": 0, "backoff_base": "0"}');
select outbox_put('once', '{}');
select outbox_put('ever', '{}');
select is(pg_temp.fail_once('once'), '1: retried 0, dead 1', 'one means one delivery');
select is(
    (select count(*) from generate_series(1, 30) where pg_temp.fail_once('ever') like '%: retried 1, dead 0'),
    30::bigint,
    'zero means for ever'
);
select is(
    (select attempts::int from ready r inner join channel c using (channel_id) where c.name = 'ever'),
    30,
    'and still counts'
);

select * from finish();
