-- R9
select plan(7);

select is(_backoff('2 s', '5 min', 2, 0, 0), '2 s'::interval, 'the first delay is the base');
select is(_backoff('2 s', '5 min', 2, 0, 3), '16 s'::interval, 'it doubles');
select is(_backoff('2 s', '5 min', 2, 0, 8), '5 min'::interval, 'up to the cap');
select is_empty(
    $$select n from unnest(array[29, 30, 31, 42, 43, 62, 63, 64, 1023, 1024, 2147483647]) as n
    where _backoff('2 s', '5 min', 2, 0, n) <> '5 min'$$,
    'any number of attempts gives the cap'
);
select is_empty(
    $$select n from unnest(array[0, 30, 43, 2147483647]) as n
    where _backoff('100 years', '1000 years', 10, 0.5, n) is null$$,
    'whatever the base'
);
select is_empty(
    $$select d from (select _backoff('10 s', '5 min', 2, 0.1, 0) as d from generate_series(1, 1000)) as x
    where d not between '9 s' and '11 s'$$,
    'jitter stays within its share'
);
select cmp_ok(
    (select count(distinct _backoff('10 s', '5 min', 2, 0.1, 0)) from generate_series(1, 100)), '>', 50::bigint, 'and does jitter'
);

select * from finish();
