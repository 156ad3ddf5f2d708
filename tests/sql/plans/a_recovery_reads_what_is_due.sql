-- R25 for recovery_sweep, and for the cleanup of runs
select plan(6);
select t.clock_stands();
select queue_create('q');
vacuum (analyze) tidegate.barrier, tidegate.barrier_slot, tidegate.barrier_epoch, tidegate.guard, tidegate.run;
select recovery_sweep() is null; -- a plan made while all is empty
insert into run (run_id, opened_at) select 'r' || n, clock_now() from generate_series(1, 20000) n;
insert into guard (scope, key, owner, claimed_at, expires_at, run_id)
select 's', n::text, 'w', clock_now(), clock_now() + '1 minute', 'r' || n from generate_series(1, 20000) n;
select count(barrier_open('b' || n, 1, 'q', p_expires_in => '1 day', p_stall_after => '1 day')) from generate_series(1, 5000) n;
select count(barrier_open('due' || n, 1, 'q', p_expires_in => '1 minute', p_run_id => 'r' || n)) from generate_series(1, 5) n;
select run_finish('r' || n, 'completed') from generate_series(6, 9) n;
select t.clock_moves('2 hours');
create temporary table before (relid oid, seq_scan bigint, idx_tup_fetch bigint);
create function pg_temp.reads(p_table text, out scans bigint, out fetched bigint) language sql
as $$
    select s.seq_scan - b.seq_scan, s.idx_tup_fetch - b.idx_tup_fetch
    from pg_stat_xact_user_tables s join pg_temp.before b using (relid)
    where s.relid = ('tidegate.' || p_table)::regclass
$$;
begin;
insert into before select relid, seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where schemaname = 'tidegate';
select is((select (s.failed, s.guards)::text from recovery_sweep() s), '(5,4)', 'what is due is recovered');
select is((select scans from pg_temp.reads('barrier')), 0::bigint, 'barriers are found by their index');
select cmp_ok((select fetched from pg_temp.reads('barrier')), '<', 100::bigint, 'and no other is read');
select is((select scans from pg_temp.reads('guard')) + (select scans from pg_temp.reads('run')), 0::bigint, 'guards and runs too');
select cmp_ok((select fetched from pg_temp.reads('guard')), '<', 50::bigint, 'and no other is read');
commit;
select t.clock_moves('31 days');
begin;
truncate before;
insert into before select relid, seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where schemaname = 'tidegate';
select _run_trim(100, clock_now() - interval '30 days');
select is((select scans from pg_temp.reads('guard')) + (select scans from pg_temp.reads('run')), 0::bigint, 'nor by a cleanup of runs');
commit;
select * from finish();
