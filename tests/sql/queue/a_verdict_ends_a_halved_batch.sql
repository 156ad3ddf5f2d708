-- design 3: max_batch holds until a settlement of the message's own
select plan(3);
select t.clock_stands();
select queue_create('work', '{"lease": "1 minute", "backoff_base": "0"}');
select count(*) from queue_send_many('work', array_fill('1'::jsonb, array[8]));
select count(*) from queue_claim('work', 8);
select t.clock_moves('2 minutes');
select is((select count(*) from queue_claim('work', 8)), 4::bigint, 'a crowd comes back in halves');
select lease_id from lease \gset
select is(
    (select s.retried from outbox_settle(:'lease_id', '{}', (
        select jsonb_agg(jsonb_build_object('message_id', m.message_id, 'error', 'no', 'retry_in', '0'))
        from lease l cross join unnest(l.messages) as m
    )) as s),
    4, 'these four are judged'
);
select results_eq(
    $$select max_batch, attempts::int, count(*) from ready group by 1, 2 order by 1 nulls last$$,
    $$values (4, 0, 4::bigint), (null, 1, 4)$$,
    'and are claimed with any others again'
);

select * from finish();
