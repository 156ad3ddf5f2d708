-- R104, R109: each part alone, each error by name, a streak a part
select plan(10);
select t.clock_stands();
select queue_create('mail');
select count(*) from queue_send_many('mail', array_fill('{}'::jsonb, array[3]), p_idempotency_key => 'k');
select counter_add('n', 3);
select t.clock_moves('25 hours');
-- given a table that is broken
alter table tidegate.guard rename to guard_away;
select keys_removed, counters_folded, has_more, errors from cleanup_sweep() \gset
-- then the others are cleaned
select is(:keys_removed, 3, 'keys go');
select is(:counters_folded, 1, 'counters are folded');
select ok(not :'has_more', 'an error is no reason to come back at once');
-- and the error has its part's name
select is((select array_agg(k order by k) from jsonb_object_keys(:'errors'::jsonb) as k), array['guard', 'run'], 'by part: runs look after their guards');
select matches(:'errors'::jsonb ->> 'guard', '^42P01: .*guard', 'with what was wrong');
select is((select u.failure_count from upkeep u where u.job = 'cleanup.guard'), 1, 'a streak begins');
select cleanup_sweep();
select is((select u.failure_count from upkeep u where u.job = 'cleanup.guard'), 2, 'and goes on');
select is((select array_agg(u.job order by u.job) from upkeep u), array['cleanup.guard', 'cleanup.run'], 'those of no other part');
-- when it is mended
alter table tidegate.guard_away rename to guard;
select is((select c.errors from cleanup_sweep() c), '{}'::jsonb, 'no error');
select is((select u.failure_count from upkeep u where u.job = 'cleanup.guard'), 0, 'the streak ends');
select * from finish();
