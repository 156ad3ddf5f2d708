-- R106
select plan(5);
select t.clock_stands();
select queue_create('q');
select barrier_open('open', 2, 'q');
select epoch as done from barrier_open('done', 1, 'q') \gset
select barrier_arrive('done', :done, 1, '"r"');
select is((select barriers_removed from cleanup_sweep()), 0, 'what was closed lately stays');
select t.clock_moves('8 days');
select is((select barriers_removed from cleanup_sweep(p_barrier_retention => '9 days')), 0, 'as long as it is told');
select cmp_ok((select barriers_removed from cleanup_sweep()), '>', 0, 'then it goes');
select cleanup_sweep();
select is((select count(*) from barrier_results('done', :done)), 0::bigint, 'with its results');
select is((select array_agg(name) from barrier), array['open'], 'and what is open stays');
select * from finish();
