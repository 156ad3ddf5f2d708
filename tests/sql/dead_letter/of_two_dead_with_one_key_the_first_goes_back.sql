-- R52: rows that share a key neither collide on their way to the dead nor back
select plan(5);
select t.clock_stands();
select queue_create('work');
select queue_create('beside');
select count(*) from queue_send_many('work', array['1', '2', '3']::jsonb[]);
update ready set job_key = 'k';
select channel_id as work from channel where name = 'work' \gset

-- given three of one key, that die in one statement
select lives_ok(
    format(
        $$select _message_bury(%s, array_agg(row(%s)::message), array_fill('purged'::text, array[3]), array_fill('e'::text, array[3]))
        from ready as r$$,
        :work,
        (select string_agg('r.' || attname, ', ' order by attnum) from pg_attribute where attrelid = 'message'::regclass and attnum > 0)
    ),
    'three of one key die together'
);
delete from ready;
select is(dead_letter_count(), 3::bigint, 'each has its entry');

select is((select r::text from dead_letter_requeue_matching(p_dry_run => true) as r), '(1,2,0,0,"2026-01-01 12:00:00+00")', 'a dry run says that one can go back');
select results_eq(
    $$select outcome from dead_letter_requeue(array(select dead_letter_id from dead_letter order by 1)) as r$$,
    $$values ('requeued'), ('key_in_use'), ('key_in_use')$$,
    'and the first does'
);
select is(t.places('work'), 'ready=1 dead=2', 'the others stay dead');

select * from finish();
