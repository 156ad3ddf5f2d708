-- R25: at 1 000 ready messages and at 200 000, behind 50 000 delayed and 10 000 leased ones
select plan(3);
select topic_create('orders', '{"lease": "1 day", "max_runtime": "1 day"}');
create function pg_temp.fill(p_count integer, p_run_at timestamptz) returns void
language sql
as $$
    select count(*)
    from generate_series(1, p_count / 1000),
        outbox_put_many('orders', array_fill('1'::jsonb, array[1000]), p_run_at => p_run_at)
$$;

-- A transaction that has written does not tick, however long the machine took since the last one: here a claim is
-- measured, and nothing beside it.
create function pg_temp.claim_buffers(p_topic text, p_limit integer) returns bigint
language sql
as $$
    select pg_current_xact_id();
    select t.buffers(format('select count(*) from outbox_claim(%L, %s)', p_topic, p_limit));
$$;

-- given a small backlog, and everything warm
select pg_temp.fill(1000, null);
select count(*) from outbox_claim('orders', 100);
select pg_temp.claim_buffers('orders', 100) as small \gset

-- when it has grown
select pg_temp.fill(50000, clock_now() + interval '1 day');
select count(*) from generate_series(1, 100), outbox_claim('orders', 100);
select pg_temp.fill(200000, null);
select count(*) from outbox_claim('orders', 100);
select pg_temp.claim_buffers('orders', 100) as large \gset

select diag(format('a claim of 100 touches %s pages at a backlog of 1 000, %s at 200 000', :small, :large));
select cmp_ok(:large::bigint, '<=', :small + 60::bigint, 'a claim of 100 touches no more than some pages more');

-- and a claim of one, and a probe of an empty channel, touch next to nothing
select cmp_ok(
    pg_temp.claim_buffers('orders', 1), '<=', 60::bigint, 'a claim of one touches a few'
);
select topic_create('empty');
select count(*) from outbox_claim('empty');
select cmp_ok(
    pg_temp.claim_buffers('empty', 100), '<=', 30::bigint, 'an empty channel costs a probe'
);

select * from finish();
