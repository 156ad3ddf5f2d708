-- a poll that knows its queue to be idle misses nothing that comes without a tick
select plan(7);
select t.clock_stands();
select queue_create('q', '{"lease": "1 minute", "jitter": 0}');
create function pg_temp.idle_for() returns interval language sql as
$$ select idle_until - clock_now() from floor order by floor_id desc limit 1 $$;
-- each in a transaction of its own: to a tick in one that has written, that one is not idle
create procedure pg_temp.polls() language plpgsql as $$
begin
    for n in 1 .. 3 loop
        perform t.clock_moves('1 second');
        commit;
        set local tidegate.tick = 'on';
        perform queue_claim('q');
        commit;
    end loop;
end;
$$;
select queue_send('q', '1', p_job_key => 'k');
select t.clock_moves('1 second');
select lease_id from queue_claim('q') \gset
call pg_temp.polls();
select is(pg_temp.idle_for(), null, 'while something is leased, a queue is not idle');
select queue_send('q', '2', p_job_key => 'k', p_run_at => clock_now() + interval '10 minutes');
select queue_nack(:'lease_id', p_retry_in => '1 hour');
call pg_temp.polls();
call pg_temp.polls();
select ok(pg_temp.idle_for() between '59 minutes' and '1 hour', 'it is idle until the retry is due');
select count(*) from queue_cancel('q', array(select message_id from scheduled));
select is((select due_at - clock_now() < '10 minutes' from scheduled), true, 'a follow-up takes its place');
select t.clock_moves('10 minutes');
select results_eq($$select payload from queue_claim('q')$$, $$values ('2'::jsonb)$$, 'and comes at its own time');
select queue_ack(lease_id) from lease;
call pg_temp.polls();
select is(
    (select idle_until from floor order by floor_id desc limit 1), 'infinity'::timestamptz, 'then it is idle for ever'
);
select queue_send('q', '3', p_group_key => 'g');
select t.clock_moves('1 second');
select results_eq($$select payload from queue_claim('q')$$, $$values ('3'::jsonb)$$, 'until something is sent');

-- lease is read before scheduled: what a nack moves between the two is in one of them
select ok(
    position('from lease l' in prosrc) < position('from scheduled s' in prosrc), 'places are read in the order of a message''s way'
) from pg_proc where proname = '_tick';
select * from finish();
