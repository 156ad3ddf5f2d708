-- R118, R121
select plan(11);
select queue_create('mail');
select queue_create('idle');
select count(*) from queue_send_many('mail', array_fill('{}'::jsonb, array[3]), p_run_id => 'r1', p_tenant => 'acme');
select count(*) from queue_send_many('mail', array_fill('{}'::jsonb, array[2]), p_run_id => 'r2');
select count(*) from queue_send_many('mail', array_fill('{}'::jsonb, array[2]));
select is_empty($$select * from counter_reconcile()$$, 'nothing is leased, nothing counted');
select lease_id, array_agg(message_id order by message_id) as ids from queue_claim('mail', 10) group by 1 \gset
-- given that it was counted wrong
select count(*) from counter_sync('{"leased.channel.queue.mail": 99, "leased.run.gone": 7, "leased.runner": 5}');
-- when it is rebuilt
select results_eq(
    $$select c.key, c.value, c.skew, c.outcome from counter_reconcile() c$$,
    $$values ('leased.channel.queue.mail', 7::bigint, 92::bigint, 'written'),
        ('leased.run.gone', 0, 7, 'written'), ('leased.run.r1', 3, 3, 'written'), ('leased.run.r2', 2, 2, 'written'),
        ('leased.tenant.acme', 3, 3, 'written')$$,
    'by channel, run and tenant; what is not leased any more is 0'
);
select is(counter_peek('leased.runner'), 5::bigint, 'a counter of a like name is not of that kind');
-- what is settled is not leased
select queue_ack(:'lease_id', (:'ids'::bigint[])[:2]);
select is(
    (select c.value from counter_reconcile('{run}') c where c.key = 'leased.run.r1'), 1::bigint, 'settled ones do not count'
);
select is(counter_peek('leased.channel.queue.mail'), 7::bigint, 'only what was asked for');
-- a name that is longer than a key
select count(*) from queue_send('mail', '{}', p_run_id => repeat('r', 512));
select count(*) from queue_claim('mail', 10);
select is((select sum(c.value) from counter_reconcile('{run}') c where c.key like 'leased.run.rrr%'), 1::numeric, 'is cut');

-- given leases that cannot be read
alter table tidegate.lease rename column messages to messages_away;
select results_eq(
    $$select c.key, c.outcome from counter_reconcile() c where c.outcome <> 'unchanged' and c.key not like '%.queue.%'$$,
    $$values ('leased.run.', 'kept'), ('leased.tenant.', 'kept')$$,
    'what cannot be counted is kept'
);
select is(counter_peek('leased.run.r1'), 1::bigint, 'its value stands');
select is(counter_peek('leased.channel.queue.mail'), 6::bigint, 'the others are counted all the same');
select matches(
    (select string_agg(i.message, ' ' order by i.incident_id) from incident i where i.routine = 'counter_reconcile'),
    'run: .*messages.*tenant: ', 'and the errors are noted'
);
alter table tidegate.lease rename column messages_away to messages;
-- a counter that says 0 for long is removed
select queue_ack(l.lease_id) from lease l;
select count(*) from counter_reconcile();
select t.clock_stands(clock_timestamp() + '31 days');
select cleanup_sweep();
select is_empty($$select * from counter c where c.value = 0$$, 'cleanup removes what says 0');
select * from finish();
