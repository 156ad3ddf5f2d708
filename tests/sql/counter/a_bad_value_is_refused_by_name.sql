select plan(19);
create function pg_temp.sync_fails(p_values text, p_like text) returns text language sql
as $$
    select throws_like(format('select * from counter_sync(%L)', p_values), p_like, left(p_values, 60))
$$;
select pg_temp.sync_fails('{"a": "7"}', '%a: "7"%');
select pg_temp.sync_fails('{"a": null}', '%a: null%');
select pg_temp.sync_fails('{"a": 1.5}', '%a: 1.5%');
select pg_temp.sync_fails('{"a": 1e30}', '%a: 1000000%');
select pg_temp.sync_fails('{"": 1}', '%p_values%');
select pg_temp.sync_fails('7', '%7%');
select pg_temp.sync_fails('[7]', '%7%');
select pg_temp.sync_fails('[{"key": "a"}]', '%"a"%');
select pg_temp.sync_fails('[{"key": "a", "value": 1, "rnu_id": "x"}]', '%rnu_id%');
select pg_temp.sync_fails('[{"key": "a", "value": 1, "run_id": 7}]', '%7%');
select pg_temp.sync_fails('[{"key": "a", "value": 1}, {"key": "a", "value": 2}]', '%''a''%');
select throws_ok($$select counter_sync(null)$$, 'TG010', null, 'nothing given');
select throws_ok(
    $$select counter_sync((select jsonb_object_agg('k' || n, n) from generate_series(1, 10001) as n))$$,
    'TG010', null, 'too many at once'
);
select throws_ok($$select counter_add('')$$, 'TG010', null, 'a counter without a name');
select throws_ok($$select counter_add(repeat('x', 1001))$$, 'TG010', null, 'one with too much of it');
select throws_ok($$select counter_add('a', null)$$, 'TG010', null, 'no amount');
select throws_ok($$select counter_reconcile('{queue}')$$, 'TG010', null, 'an unknown kind');
select throws_ok($$select counter_reconcile(p_prefix => '')$$, 'TG010', null, 'no prefix');
select is_empty($$select * from counters$$, 'and nothing was written');
select * from finish();
