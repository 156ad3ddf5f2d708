-- large payloads, an archive, priorities and purges in a group leave nothing behind
select plan(8);
select t.clock_stands();
select queue_create('q', '{"archive": true, "inline_limit": 10}');
select count(*) from queue_send_many(
    'q', array(select to_jsonb(repeat(n::text, 20)) from generate_series(1, 4) n), p_group_key => 'g'
);
select queue_send('q', '"urgent"', p_group_key => 'g', p_priority => 0);
select queue_send('q', '"later"', p_group_key => 'h', p_priority => 5);
select t.clock_moves('1 second');
select results_eq(
    $$select left(payload #>> '{}', 5), priority::int from queue_claim('q', 10)$$, $$values ('11111', 0), ('later', 5)$$,
    'the first of each group, by priority'
);
select is((select sum((queue_ack(lease_id)).acked) from lease), 2::bigint, 'done');
select results_eq($$select left(payload #>> '{}', 5) from queue_claim('q', 10)$$, $$values ('22222')$$, 'the next');
select is(queue_purge('q'), 3::bigint, 'what waits is purged');
select is(t.places('q'), 'lease=1 dead=3', 'what is leased stays');
select is((select sum((queue_ack(lease_id)).acked) from lease), 1::bigint, 'done');
select is((select count(*) from archive), 3::bigint, 'what was done is kept');
select results_eq(
    $$select count(*) from body b where not exists (select from archive a where a.body_id = b.body_id)
        and not exists (select from dead_letter d where d.body_id = b.body_id)$$, $$values (0::bigint)$$,
    'every body has an owner'
);
select * from finish();
