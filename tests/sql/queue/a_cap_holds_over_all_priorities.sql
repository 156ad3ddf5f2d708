-- R40, R121
select plan(3);
select t.clock_stands();
select queue_create('work', '{"max_in_flight": 5}');
select count(*) from queue_send_many('work', array_fill('1'::jsonb, array[10]), p_priority => 0);
select count(*) from queue_send_many('work', array_fill('1'::jsonb, array[3]), p_priority => 3);
select count(*) from queue_send_many('work', array_fill('1'::jsonb, array[10]), p_priority => 7);
select is((select count(*) from queue_claim('work', 3)), 3::bigint, 'below the cap');
select is((select count(*) from queue_claim('work', 20)), 2::bigint, 'the next priority does not begin to count anew');

-- and where the first priority holds too few
select queue_create('other', '{"max_in_flight": 5}');
select queue_send('other', '1', p_priority => p) from unnest(array[0, 0, 3, 3, 7, 7, 9]) as p;
select is((select count(*) from queue_claim('other', 20)), 5::bigint, 'all priorities together fill it');

select * from finish();
