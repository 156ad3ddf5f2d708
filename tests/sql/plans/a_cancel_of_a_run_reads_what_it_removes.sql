-- R25 for run_cancel, and for sends and claims of what has a run
select plan(7);
select queue_create('busy', '{"max_attempts": 0}');
vacuum (analyze) tidegate.ready, tidegate.scheduled, tidegate.blocked, tidegate.lease, tidegate.body, tidegate.run,
    tidegate.job_key;
begin;
select run_cancel('nothing'); -- a plan made while all is empty
commit;
select count(*) from generate_series(1, 20), queue_send_many('busy', array_fill('1'::jsonb, array[1000]), p_run_id => 'other');
select count(*) from queue_send_many('busy', array_fill('1'::jsonb, array[500]), p_run_id => 'mine');
insert into run (run_id, opened_at) select 'r' || n, clock_now() from generate_series(1, 20000) n;

begin;
select t.reads_begin();
select is((select removed from run_cancel('mine')), 500::bigint, 'a cancel removes what is of the run');
select is_empty($$select place from t.reads() where sequential_scans > 0$$, 'no place is read sequentially');
select cmp_ok(
    (select rows_by_index from t.reads() where place = 'ready'), '<=', 1600::bigint, 'ready is read for what it removes only'
);
commit;

-- a run costs its messages one lookup, however many there are
begin;
select seq_scan as scans, idx_tup_fetch as fetched from pg_stat_xact_user_tables where relid = 'tidegate.run'::regclass \gset
select count(*) from queue_send('busy', '1', p_run_id => 'other');
select results_eq(
    $$select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where relid = 'tidegate.run'::regclass$$,
    format('values (%s::bigint, %s::bigint)', :scans, :fetched), 'a send of a run that nobody opened finds none, by the key'
);
set local tidegate.tick = 'on';
select count(*) from queue_claim('busy', 100);
select is(
    (select seq_scan from pg_stat_xact_user_tables where relid = 'tidegate.run'::regclass), :scans::bigint,
    'a claim looks it up too'
);
commit;
begin;
set local tidegate.tick = 'on';
select queue_send_many('busy', array_fill('1'::jsonb, array[100])) limit 1;
select queue_claim('busy', 1) limit 1;
select idx_scan as looked from pg_stat_xact_user_tables where relid = 'tidegate.run'::regclass \gset
select queue_create('plain');
select count(*) from queue_send_many('plain', array_fill('1'::jsonb, array[100]));
select queue_send('plain', '1');
select count(*) from queue_claim('plain', 50);
select count(*) from queue_claim('plain');
select is(
    (select count(*) from lease l inner join channel c using (channel_id) where c.name = 'plain' and l.run_ids is null),
    2::bigint, 'leases of messages without a run name none'
);
select count(*) from lease l, queue_ack(l.lease_id);
select is(
    (select idx_scan from pg_stat_xact_user_tables where relid = 'tidegate.run'::regclass), :looked::bigint,
    'and nothing is looked up for them'
);
commit;
select * from finish();
