-- R113
select plan(16);
select t.clock_stands();
select queue_create('q', '{"lease": "1 minute", "backoff_base": "0"}');
select queue_send('q', '"ready"');
select queue_send('q', '"later"', p_run_at => clock_now() + interval '1 hour');
select results_eq(
    $$select outcome from queue_cancel('q', array(select message_id from ready union all
        select message_id from scheduled union all select -1))$$,
    $$values ('unknown'), ('cancelled'), ('cancelled')$$, 'what waits is cancelled, what is not there is unknown'
);
select results_eq(
    $$select reason, state, count(*) from dead_letter group by 1, 2$$, $$values ('cancelled', 'discarded', 2::bigint)$$,
    'and kept, for nobody to look at'
);
select is(dead_letter_count(), 0::bigint, 'nothing is dead');
select is(t.total('q', 'cancelled'), 2::bigint, 'it is counted');

-- when it is leased
select count(*) from queue_send_many('q', array['1', '2', '3', '4']::jsonb[]);
select t.clock_moves('1 second');
select lease_id, array_agg(message_id order by message_id) as ids from queue_claim('q', 4) group by 1 \gset
select results_eq(
    format($$select outcome from queue_cancel('q', %L::bigint[])$$, (:'ids'::bigint[])[1:3]),
    $$values ('leased'), ('leased'), ('leased')$$, 'a flag is set'
);
select results_eq(
    format($$select outcome from queue_cancel('q', %L::bigint[])$$, (:'ids'::bigint[])[1:1]), $$values ('leased')$$,
    'and set again'
);
select is(
    (select e.cancelled from queue_extend(:'lease_id') e), (:'ids'::bigint[])[1:3], 'of which the holder is told'
);
select is((select a.acked from queue_ack(:'lease_id', (:'ids'::bigint[])[1:1]) a), 1, 'done all the same');
select is((select a.dead_lettered from queue_nack(:'lease_id', (:'ids'::bigint[])[2:2]) a), 1, 'a failure is no retry');
select t.clock_moves('2 minutes');
select results_eq($$select payload from queue_claim('q', 10)$$, $$values ('4'::jsonb)$$, 'nor does it come back when it expires');
select results_eq(
    $$select payload, reason, state from dead_letter where payload in ('2', '3') order by 1$$,
    $$values ('2'::jsonb, 'cancelled', 'discarded'), ('3'::jsonb, 'cancelled', 'discarded')$$, 'they are cancelled'
);

-- by job key, with its follow-up
select queue_send('q', '"k1"', p_job_key => 'k');
select t.clock_moves('1 second');
select count(*) from queue_claim('q');
select queue_send('q', '"k2"', p_job_key => 'k');
select results_eq(
    $$select outcome from queue_cancel('q', p_job_key => 'k') order by 1$$, $$values ('cancelled'), ('leased')$$,
    'the leased one is flagged, what follows it is gone'
);
select queue_ack(lease_id) from lease where not is_plain;
select is((select count(*) from job_key), 0::bigint, 'so nothing comes after it');
select is_empty($$select * from queue_cancel('q', p_job_key => 'k')$$, 'a key without a message has nothing to cancel');
select throws_ok($$select queue_cancel('q')$$, 'TG010', null, 'nothing named');
select throws_ok($$select queue_cancel('q', '{1}', 'k')$$, 'TG010', null, 'both named');
select * from finish();
