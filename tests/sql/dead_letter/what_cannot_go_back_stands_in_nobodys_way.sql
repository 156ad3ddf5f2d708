-- R60: a bulk requeue passes over what has no channel or no free key, and takes as many others
select plan(5);
select t.clock_stands();
select queue_create('work');
insert into dead_letter (
    dead_at, channel_id, kind, channel, reason, last_error, attempts, priority, message_id, enqueued_at, payload, job_key
)
select
    clock_now() - (4000 - n) * interval '1 second', case when n <= 1500 then -1 else c.channel_id end, 'queue', 'work',
    'exhausted', 'e', 5, 0, n, clock_now(), to_jsonb(n), case when n between 1501 and 2700 then 'k' when n % 2 = 0 then 'k' || n end
from generate_series(1, 4000) as n
inner join channel as c on c.name = 'work';
select queue_send('work', '0', p_job_key => 'k3000');

-- given 1 500 of a channel that was dropped, then 1 200 of one key, then 1 300 others, one of which has its key in use
select is(
    (select (r.requeued, r.key_in_use, r.no_channel, r.busy)::text from dead_letter_requeue_matching(p_limit => 500, p_dry_run => true) as r),
    (select (r.requeued, r.key_in_use, r.no_channel, r.busy)::text from dead_letter_requeue_matching(p_limit => 500) as r),
    'a dry run tells what a run does'
);
select is(t.places('work'), 'ready=501 dead=2000', 'that requeues as many as it may, behind what cannot go');
select is(
    (select (r.requeued, r.key_in_use, r.no_channel, r.busy)::text from dead_letter_requeue_matching(p_limit => 5000, p_dry_run => true) as r),
    '(800,1200,1500,0)', 'what is left is told apart'
);
select is(
    (select (r.requeued, r.key_in_use, r.no_channel, r.busy)::text from dead_letter_requeue_matching(p_limit => 5000) as r),
    '(800,1200,1500,0)', 'exactly'
);
select is(
    (select count(*) from job_key as k where not exists (select from ready as r where r.job_key = k.key and r.message_id = k.message_id)),
    0::bigint, 'every key has its live message'
);

select * from finish();
