-- R56: a keyset of two, so that an entry that died again or was cleaned away between two pages is no trouble
select plan(6);
select t.clock_stands();
insert into dead_letter (
    dead_letter_id, dead_at, channel_id, kind, channel, reason, last_error, attempts, priority, message_id, enqueued_at
) overriding system value
select n, clock_now() - (10 - n) * interval '1 minute', 1, 'queue', 'work', 'purged', 'e', 1, 0, n, clock_now()
from generate_series(1, 10) as n;

select is(array(select dead_letter_id from dead_letter_list(p_limit => 3)), array[10, 9, 8]::bigint[], 'the newest death is first');
-- when the last one seen dies again
update dead_letter set dead_at = clock_now() + interval '1 second' where dead_letter_id = 8;
select is(
    array(
        select dead_letter_id
        from dead_letter_list(p_after_id => 8, p_after_at => clock_now() - interval '2 minutes', p_limit => 3)
    ),
    array[7, 6, 5]::bigint[],
    'with its time of death the page goes on where it was'
);
select is((select dead_letter_id from dead_letter_list(p_limit => 1)), 8::bigint, 'and it has come to the top');
-- when it is gone
delete from dead_letter where dead_letter_id = 8;
select is(
    array(
        select dead_letter_id
        from dead_letter_list(p_after_id => 8, p_after_at => clock_now() - interval '2 minutes', p_limit => 3)
    ),
    array[7, 6, 5]::bigint[],
    'also when it is no more'
);
select throws_ok(
    $$select * from dead_letter_list(p_after_id => 8)$$, 'TG010', 'p_after_id is ''8''',
    'without its time that is said, for an empty page would look like the end'
);
select is(
    array(select dead_letter_id from dead_letter_list(p_after_id => 10, p_until => clock_now() - interval '6 minutes')),
    array[3, 2, 1]::bigint[],
    'and it never leads beyond the time asked for'
);

select * from finish();
