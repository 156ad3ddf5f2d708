select plan(12);
-- given additions, some taken back
select counter_add('orders.open');
select counter_add('orders.open', 10);
select counter_add('orders.open', -3);
select counter_add('other', 0);
begin;
select counter_add('orders.open', 1000);
rollback;
-- then they count at once, and what was rolled back never did
select is(counter_peek('orders.open'), 8::bigint, 'additions count');
select is((select count(*) from counter), 0::bigint, 'no shared row was written');
select is((select array_agg(format('%s=%s', c.key, c.value)) from counters c), array['orders.open=8'], 'the view says so');
-- when they are folded
select is((select c.counters_folded from cleanup_sweep() c), 3, 'cleanup folds them');
-- then it says the same, from one row
select is(counter_peek('orders.open'), 8::bigint, 'the value survives');
select is_empty($$select * from counter_delta$$, 'the additions are gone');
select is((select c.counters_folded from cleanup_sweep() c), 0, 'nothing is left to fold');
-- and further ones count on
select counter_add('orders.open', 2);
select is(counter_peek('orders.open'), 10::bigint, 'on top of what was folded');
-- R105: a fold is bounded, and reads are right in the middle of it
select counter_add('n' || n % 3) from generate_series(1, 10) as n;
select is(_counter_fold(4), 4, 'a bounded fold');
select is((select sum(c.value) from counters c where c.key like 'n%'), 10::numeric, 'what is left still counts');
select _counter_fold(100);
select is((select sum(c.value) from counter c where c.key like 'n%'), 10::numeric, 'the next one takes the rest');
-- an addition that comes before what it takes from
select counter_add('early', -1);
select _counter_fold(100);
select counter_add('early', 3);
select is(counter_peek('early'), 2::bigint, 'nothing is lost below 0');
select * from finish();
