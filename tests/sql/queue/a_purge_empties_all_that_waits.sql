-- to dead letters, from where all of it can come back, or for good
select plan(12);
select t.clock_stands();
select queue_create('q', '{"lease": "1 hour", "inline_limit": 40}');
create function pg_temp.fill() returns void language plpgsql as $$
begin
    perform queue_send('q', to_jsonb(repeat('r', 60)), p_job_key => 'k');
    perform t.clock_moves('1 second');
    set local tidegate.tick = 'on';
    perform queue_claim('q');
    perform queue_send('q', to_jsonb(repeat('f', 60)), p_job_key => 'k');
    perform queue_nack(lease_id, p_retry_in => '1 hour') from lease where not is_plain;
    perform queue_send('q', '"leased"');
    perform queue_claim('q');
    perform queue_send('q', '"ready"');
    perform queue_send_many('q', array['"g1"', '"g2"']::jsonb[], p_group_key => 'g');
    perform queue_send('q', '"scheduled"', p_run_at => clock_now() + interval '1 hour');
end;
$$;
select pg_temp.fill();
select is(queue_purge('q'), 6::bigint, 'all that waits, and a follow-up');
select is(t.places('q'), 'lease=1 dead=6', 'is dead, but for what is leased');
select results_eq($$select distinct reason from dead_letter$$, $$values ('purged')$$, 'with its reason');
select results_eq(
    $$select left(p #>> '{}', 2) from dead_letter d cross join dead_letter_payload(d.dead_letter_id) p where job_key = 'k' order by 1$$,
    $$values ('ff'), ('rr')$$, 'a follow-up and what it follows have an entry each'
);
select is((select count(*) from job_key), 0::bigint, 'keys are free');
select is(t.total('q', 'purged'), 6::bigint, 'it is counted');
select is(queue_purge('q'), 0::bigint, 'a repeat finds nothing');

truncate dead_letter, body;
select queue_ack(lease_id) from lease;
select pg_temp.fill();
select is(queue_purge('q', 'discard'), 6::bigint, 'or for good');
select is(t.places('q'), 'lease=1', 'nothing is left');
select is((select count(*) from body), 0::bigint, 'of bodies neither');
select throws_ok($$select queue_purge('q', 'nowhere')$$, 'TG010', null, 'to nowhere else');
select throws_ok($$select queue_purge('none')$$, 'TG020', null, 'no such queue');
select * from finish();
