-- R25: what a claim and a settlement pay for must not grow unnoticed.
begin;
select plan(2);

select bag_eq(
    $$select indexrelid::regclass::text from pg_index where indrelid = 'tidegate.lease'::regclass$$,
    array['lease_pkey', 'lease_for_expiry'],
    'lease has the index of its key and the one of its expiry'
);
select bag_eq(
    $$select indexrelid::regclass::text from pg_index where indrelid = 'tidegate.ready'::regclass$$,
    array['ready_pkey', 'ready_for_job_key', 'ready_for_run'],
    'ready has the index of its key, and partial ones that only messages with a job key or a run enter'
);

select * from finish();
rollback;
