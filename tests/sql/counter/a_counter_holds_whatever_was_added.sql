-- more than a bigint: it reads as 10^18, and neither it nor its neighbours fail
select plan(9);
create function pg_temp.says() returns text language sql as
$$ select string_agg(format('%s=%s', key, value), ' ' order by key) from counters $$;
insert into counter_delta select nextval('counter_seq'), a, k
from generate_series(1, 10000), (values ('big', 1000000000000000), ('neg', -1000000000000000)) v (k, a);
select counter_add('ok', 1);
select is(counter_peek('big'), 1000000000000000000, 'it is peeked at');
select is(pg_temp.says(), 'big=1000000000000000000 neg=0 ok=1', 'the view says the same');
-- whether it is folded or not
select _counter_fold(100000);
select is(counter_peek('big'), 1000000000000000000, 'folded, too');
select is(pg_temp.says(), 'big=1000000000000000000 neg=0 ok=1', 'and in the view');
insert into counter_delta select nextval('counter_seq'), 1000000000000000, 'big' from generate_series(1, 100);
select results_eq(
    $$select key, value, counted, outcome from counter_sync('{"big": 5, "neg": 6, "ok": 7}')$$,
    $$values ('big', 5::bigint, 1000000000000000000, 'written'), ('neg', 6, 0, 'written'), ('ok', 7, 1, 'written')$$,
    'a sync sets it, and its neighbours'
);
select is(pg_temp.says(), 'big=5 neg=6 ok=7', 'to what it was told');
select _counter_fold(100000);
select is(pg_temp.says(), 'big=5 neg=6 ok=7', 'before and after a fold');
select is(counter_peek('big'), 5::bigint, 'for who peeks');
select is((select array_agg(distinct value order by value) from counter), array[5, 6, 7]::numeric[], 'exactly');
select * from finish();
