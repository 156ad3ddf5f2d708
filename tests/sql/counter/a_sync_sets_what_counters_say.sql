-- R116, R119
select plan(15);
-- given a counter with additions, folded and not
select counter_add('a', 5);
select _counter_fold(100);
select counter_add('a', 2);
-- when values are set
select results_eq(
    $$select * from counter_sync('{"b": 4, "a": 10, "c": -2, "d": 0}')$$,
    $$values ('a', 10::bigint, 7::bigint, 3::bigint, 'written'), ('b', 4, 0, 4, 'written'),
        ('c', 0, 0, 0, 'clamped'), ('d', 0, 0, 0, 'unchanged')$$,
    'each answers with what it says now, what it said before, and the skew, in order of the keys'
);
select is(counter_peek('a'), 10::bigint, 'a set value holds against additions not yet folded');
select _counter_fold(100);
select is(counter_peek('a'), 10::bigint, 'and after they are');
select counter_add('a', 1);
select is(counter_peek('a'), 11::bigint, 'later ones come on top');
select is(counter_peek('c'), 0::bigint, 'none is below 0');
-- what says so already is not written
select is((select c.outcome from counter_sync('{"b": 4}') c), 'unchanged', 'the same value again');
select is((select count(*) from counter c where c.key = 'b'), 1::bigint, 'one row a counter');
select is((select c.skew from counter_sync('{"b": 1}') c), 3::bigint, 'a skew is absolute');
select is_empty($$select * from counter_sync('{}')$$, 'nothing to set');
select is_empty($$select * from counter_sync('[]')$$, 'nor here');
-- a clamped value is set
select is((select c.skew from counter_sync('{"b": -7}') c), 1::bigint, 'skew of what was asked, clamped');
select is(counter_peek('b'), 0::bigint, 'clamped at 0');
-- many at once
select is(
    (
        select count(*) from counter_sync(
            (select jsonb_object_agg('k' || n, n) from generate_series(1, 10000) as n)
        ) c
        where c.outcome = 'written'
    ),
    10000::bigint, 'ten thousand in one call'
);
select is((select sum(c.value) from counters c where c.key like 'k%'), 50005000::numeric, 'all there');
-- a value that says too much is folded to no error
select counter_add('huge', 1000000000000000) from generate_series(1, 1100);
select _counter_fold(10000);
select is(counter_peek('huge'), 1000000000000000000, 'sums end at 10^18');
select * from finish();
