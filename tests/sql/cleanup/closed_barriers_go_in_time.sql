-- R106
select plan(8);
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
-- a driver calls again for as long as it is told that there is more
select epoch as many from barrier_open('many', 30) \gset
select count(*) from generate_series(1, 30) n where barrier_arrive('many', :many, n) = 'arrived' \gset
select t.clock_moves('8 days');
select is((select has_more from cleanup_sweep(10)), true, 'rows of a barrier that is gone are more');
do $$ begin while (select c.has_more from tidegate.cleanup_sweep(10) c) loop end loop; end $$;
select is((select count(*) from barrier_results('many', :many)), 0::bigint, 'until none is left');
select is((select array_agg(e.name) from barrier_epoch e), array['open'], 'of the epoch either');
select * from finish();
