-- Compared, a month has 30 days; counted from an instant, it has its own. What is above 0 may lie in the past.
select plan(16);
select t.clock_stands();
select queue_create('q');
select is(_is_duration(i::interval), is_one, i) from (values
    ('1 microsecond', true), ('1 day -1 hour', true), ('-1 month 32 days', true), ('100 years', true),
    ('-2 months 61 days', false), ('1 month -28 days', false), ('0', false), ('100 years 1 second', false)
) v (i, is_one);
-- then it is refused
select throws_ok(statement, 'TG010', null, statement) from unnest(array[
    $$select barrier_open('b', 1, p_expires_in => '-12 months 361 days')$$,
    $$select barrier_open('b', 1, p_stall_after => '-12 months 361 days')$$,
    $$select cleanup_sweep(p_key_retention => '-12 months 361 days')$$,
    $$select guard_claim('s', 'k', 'o', '-12 months 361 days')$$,
    $$select leader_acquire('l', 'h', '-12 months 361 days')$$,
    $$select queue_configure('q', '{"retention": "-12 months 361 days"}')$$
]) statement;
-- or leads to now, so that whoever looks from now on finds it
select queue_send('q', '1');
select lease_id from queue_claim('q', p_lease => '-12 months 360 days 1 minute') \gset
select is((select expires_at from lease), clock_now() + interval '1 microsecond', 'a lease');
select queue_release(:'lease_id', p_retry_in => '-12 months 361 days');
select is((select due_at from scheduled), clock_now() + interval '1 microsecond', 'a delay');
select * from finish();
