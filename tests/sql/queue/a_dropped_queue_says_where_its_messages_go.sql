select plan(9);
select t.clock_stands();
select queue_create('q');
select count(*) from queue_send_many('q', array['1', '2']::jsonb[], p_group_key => 'g');
select queue_send('q', '3', p_job_key => 'k');
select throws_ok($$select queue_drop('q')$$, 'TG022', 'queue ''q'' still holds 3 message(s)', 'refused while messages wait');
select throws_ok($$select queue_drop('q', 'nowhere')$$, 'TG010', null, 'to nowhere');
select t.clock_moves('1 second');
select lease_id from queue_claim('q') \gset
select throws_ok($$select queue_drop('q', 'dead_letter')$$, 'TG022', 'queue ''q'' still holds 1 message(s)', 'refused while one is leased');
select is((select count(*) from dead_letter), 0::bigint, 'and then nothing is purged');
select queue_release(:'lease_id');
select lives_ok($$select queue_drop('q', 'dead_letter')$$, 'told where to');
select is(dead_letter_count('q'), 3::bigint, 'they are dead letters');
select results_eq(
    $$select (select count(*) from blocked), (select count(*) from group_turn), (select count(*) from job_key)$$,
    $$values (0::bigint, 0::bigint, 0::bigint)$$, 'of the queue nothing is left'
);
select queue_create('q');
select queue_send('q', '1');
select lives_ok($$select queue_drop('q', 'discard')$$, 'or for good');
select is(dead_letter_count('q'), 3::bigint, 'without a trace');
select * from finish();
