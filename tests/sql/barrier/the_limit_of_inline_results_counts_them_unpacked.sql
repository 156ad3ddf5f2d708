-- p_inline_limit counts what the results are as JSON, not what they are compressed in their column.
select plan(5);
select t.clock_stands();
select queue_create('q');
-- given two results of 100 kB, which compress to a few kB
select epoch as above from barrier_open('above', 2, 'q', p_inline_limit => 150000) \gset
select is((select string_agg(barrier_arrive('above', :above, n, to_jsonb(repeat('a', 100000))), ' ' order by n) from generate_series(1, 2) n), 'arrived fired', 'they arrive');
select cmp_ok((select sum(pg_column_size(result)) from barrier_result where epoch = :above), '<', 50000::bigint, 'they are stored packed');
select is((select jsonb_typeof(payload -> 'results') from queue_peek('q')), 'null', 'above the limit they stay where they are');
select is((select count(*) from barrier_results('above', :above)), 2::bigint, 'and are read from there');
select queue_purge('q', 'discard');
-- below it
select epoch as below from barrier_open('below', 2, 'q', p_inline_limit => 250000) \gset
select count(barrier_arrive('below', :below, n, to_jsonb(repeat('a', 100000)))) from generate_series(1, 2) n;
select t.clock_moves('1 second');
select is((select jsonb_array_length(payload -> 'results') from queue_claim('q')), 2, 'below it they travel with the callback');
select * from finish();
