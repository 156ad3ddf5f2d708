-- what is read for one group, or one job key, does not depend on how many others there are, whenever the plan was made
select plan(6);
select t.clock_stands();
select queue_create('q', '{"lease": "1 hour"}');
vacuum analyze ready, scheduled, blocked, group_turn, job_key, lease;
-- given a session whose plans were made on empty tables
set plan_cache_mode = force_generic_plan;
create function pg_temp.round(p_key text) returns void language plpgsql as $$
begin
    set local tidegate.tick = 'on';
    perform queue_send('q', '1', p_group_key => p_key);
    perform queue_send('q', '2', p_group_key => p_key, p_job_key => p_key);
    perform queue_send('q', '3', p_group_key => p_key, p_job_key => p_key, p_run_at => clock_now() + interval '1 hour');
    perform queue_send('q', '4', p_group_key => p_key, p_job_key => p_key);
    for n in 1 .. 2 loop
        perform t.clock_moves('1 second');
        perform queue_ack(lease_id) from queue_claim('q', 10);
    end loop;
end;
$$;
select pg_temp.round('a'), pg_temp.round('b'), pg_temp.round('c');
select is((select count(*) from lease) + (select count(*) from blocked), 0::bigint, 'all was done');
-- and then 5 000 groups with two messages each, the first of them leased, and all of them looked at by ticks
select count(*) from queue_send_specs('q', (
    select jsonb_agg(jsonb_build_object('payload', 0, 'group_key', 'g' || n % 5000, 'job_key', 'k' || n))
    from generate_series(1, 10000) n
));
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select t.clock_moves('1 second');
select count(*) from queue_claim('q', 1000);
select is((select sum(message_count) from lease), 5000::bigint, 'each group has one in work');
begin;
set local tidegate.tick = 'on';
create function pg_temp.counted(p_table text) returns bigint language sql as $$
    select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables
    where schemaname = 'tidegate' and relname = p_table
$$;
create temporary table before as
select p.place, pg_temp.counted(p.place) as rows from unnest(array['group_turn', 'blocked', 'job_key', 'scheduled']) p (place);
select pg_temp.round('d');
create temporary table after as
select p.place, pg_temp.counted(p.place) - b.rows as rows
from unnest(array['group_turn', 'blocked', 'job_key', 'scheduled']) p (place)
inner join before b using (place);
commit;
select diag(string_agg(format('%s rows of %s', rows, place), ', ')) from after;
select cmp_ok((select rows from after where place = 'group_turn'), '<', 100::bigint, 'turns are reached by their group');
select cmp_ok((select rows from after where place = 'blocked'), '<', 50::bigint, 'what waits by its group');
select cmp_ok((select rows from after where place = 'job_key'), '<', 50::bigint, 'job keys by their key');
select cmp_ok((select rows from after where place = 'scheduled'), '<', 50::bigint, 'and delayed ones by their time');
select * from finish();
