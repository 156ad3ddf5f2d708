-- R98: lost callbacks. A fired barrier has its callback in the queue by one commit; what can fail is the entry into it.
select plan(9);
select t.clock_stands();
select queue_create('q');
create function pg_temp.refuse() returns trigger language plpgsql as $$ begin raise 'no room'; end $$;
create trigger refuse before insert on tidegate.ready for each row execute function pg_temp.refuse();
create function pg_temp.swept(out did text) language sql
as $$ select format('%s refired, %s kept, %s', s.refired, s.kept, s.errors) from recovery_sweep() s $$;
select epoch from barrier_open('b', 1, 'q', '"go"') \gset
select is(barrier_arrive('b', :epoch, 1, '"one"'), 'fire_failed', 'given a callback that became a dead letter');
-- when it is looked at, which is at once
select is(pg_temp.swept(), '0 refired, 1 kept, {"b": "P0001: [P0001] no room"}', 'it may fail again');
select is((select count(*) from dead_letter), 1::bigint, 'without another dead letter');
select is(pg_temp.swept(), '0 refired, 0 kept, {}', 'and waits');
drop trigger refuse on tidegate.ready;
select t.clock_moves('1 minute');
select is(pg_temp.swept(), '1 refired, 0 kept, {}', 'when there is room it fires');
select is((select payload -> 'results' from queue_peek('q')), '["one"]', 'with its results');
select is((select state from dead_letter), 'discarded', 'its dead letter is put away');
select is(pg_temp.swept(), '0 refired, 0 kept, {}', 'once');
-- a queue that is gone
select queue_create('away');
select epoch as other from barrier_open('c', 1, 'away') \gset
select queue_drop('away');
select barrier_arrive('c', :other, 1);
select is(pg_temp.swept(), '0 refired, 1 kept, {"c": "TG020: no queue named ''away''"}', 'is reported');
select * from finish();
