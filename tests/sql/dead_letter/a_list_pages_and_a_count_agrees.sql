-- R56
select plan(9);
select t.clock_stands();
select topic_create('orders', '{"max_attempts": 1}');
select topic_create('refunds', '{"max_attempts": 1}');
select count(*) from outbox_put_many('orders', array(select to_jsonb(n) from generate_series(1, 70) as n), p_tenant => 'acme');
select outbox_put('refunds', '"x"', p_run_id => 'r9');

create function pg_temp.die(p_topic text, p_retryable boolean) returns void language sql as $$
    select outbox_settle(c.lease_id, '{}', c.failed)
    from (
        select lease_id, jsonb_agg(jsonb_build_object('message_id', message_id, 'error', 'e', 'retryable', p_retryable)) as failed
        from outbox_claim(p_topic, 100)
        group by lease_id
    ) as c
$$;
select pg_temp.die('orders', true);
select t.clock_moves('1 hour');
select pg_temp.die('refunds', false);

select is((select count(*) from dead_letter_list()), 50::bigint, 'a page is 50');
select is(dead_letter_count(), 71::bigint, 'the count does not depend on the page');
select is((select channel from dead_letter_list() limit 1), 'refunds', 'newest first');
select is(
    (
        select count(*) from dead_letter_list(p_after_id => (select min(dead_letter_id) from dead_letter_list()))
    ),
    21::bigint,
    'the next page goes on after the last id'
);
select is(dead_letter_count(p_channel => 'orders'), 70::bigint, 'by channel');
select is(dead_letter_count(p_reason => 'not_retryable'), 1::bigint, 'by reason');
select is(dead_letter_count(p_tenant => 'acme'), 70::bigint, 'by tenant');
select is(dead_letter_count(p_run_id => 'r9'), 1::bigint, 'by run');
select is(dead_letter_count(p_since => clock_now() - interval '1 minute'), 1::bigint, 'by time');

select * from finish();
