begin;
select plan(16);
select queue_create('q');
-- given an unsealed barrier whose two members have arrived
select epoch from barrier_open('b', 2, 'q', p_sealed => false) \gset
select is(barrier_arrive('b', :epoch, 1, '1') || barrier_arrive('b', :epoch, 2, '2'), 'arrivedarrived', 'before the seal nothing fires');
-- when members are added in parts
select is(barrier_add('b', :epoch, 1), 3, 'the first new one is 3');
select is(barrier_add('b', :epoch, 200, p_key => 'page-2'), 4, 'then 4');
select is(barrier_add('b', :epoch, 200, p_key => 'page-2'), 4, 'and a repeat with its key adds nothing');
select is(barrier_add('b', :epoch, 5), 204, 'the next ones come behind them');
select is((select members from barrier_status('b')), 208, 'all are counted');
-- and arrive from behind
select is(
    (select count(*) from generate_series(208, 4, -1) n where barrier_arrive('b', :epoch, n, to_jsonb(n)) = 'arrived'),
    205::bigint, 'each is its own'
);
select is(barrier_arrive('b', :epoch, 209), 'unknown', 'and no other is known');
-- then the seal waits for the last one
select is(barrier_seal('b', :epoch), 'sealed', 'sealed with one outstanding it does not fire');
select is(barrier_seal('b', :epoch), 'duplicate', 'a repeat changes nothing');
select throws_ok(
    format('select barrier_add(%L, %s, 1)', 'b', :epoch), 'TG081', 'barrier ''b'' is sealed: it takes no more members',
    'nothing is added after the seal'
);
select is(barrier_arrive('b', :epoch, 3, '3'), 'fired', 'the last one fires');
select is(
    (select payload -> 'results' from queue_peek('q')), (select jsonb_agg(n order by n) from generate_series(1, 208) n),
    'with the results of all, in order'
);
-- and afterwards
select is(barrier_add('b', :epoch, 1), null, 'a closed barrier takes no member and says so');
select throws_ok(format('select barrier_add(%L, %s, 1)', 'b', :epoch + 1), 'TG080', null, 'an epoch that never was is a mistake');
select throws_ok('select barrier_add(''x'', 1, 1)', 'TG080', 'no barrier ''x'' with epoch 1', 'and so is a barrier that never was');
select * from finish();
rollback;
