begin;
select plan(9);
select t.clock_stands();
select queue_create('q');
-- given a former epoch, a closed barrier and an open one
select epoch as old from barrier_open('b', 100, 'q') \gset
select count(*) from generate_series(1, 50) n where barrier_arrive('b', :old, n) = 'arrived' \gset
select epoch as new from barrier_open('b', 100, 'q') \gset
select barrier_open('done', 0, 'q');
-- when it is trimmed in small steps
select is(_barrier_trim(10, clock_now() - interval '1 day'), 10, 'a small step removes as much as it may');
select is((select count(*) from barrier_epoch where epoch = :old), 1::bigint, 'and does not finish an epoch');
do $$ begin for n in 1 .. 20 loop perform tidegate._barrier_trim(10, tidegate.clock_now() - interval '1 day'); end loop; end $$;
-- then the former epoch is gone, and only that
select is((select count(*) from barrier_results('b', :old)), 0::bigint, 'results of the former epoch are gone');
select is((select array_agg(epoch) from barrier_epoch where name = 'b'), array[:new::bigint], 'with all that was its');
select is((select count(*) from barrier_slot where epoch = :old), 0::bigint, 'slots included');
select is((select outstanding from barrier_status('b')), 100, 'the new one stands');
select is((select state from barrier_status('done')), 'fired', 'and what was closed lately');
-- when time has passed
select t.clock_moves('2 days');
select ok(_barrier_trim(100, clock_now() - interval '1 day') >= 1, 'what was closed long ago goes');
select is((select string_agg(name, ' ') from barrier), 'b', 'and what is open stays, however old');
select * from finish();
rollback;
