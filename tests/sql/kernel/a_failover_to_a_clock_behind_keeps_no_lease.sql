-- Must hold 4: both at once, another server and a clock set back
select plan(5);
select t.clock_stands();
select queue_create('work', '{"lease": "2 hours", "max_runtime": "3 hours", "max_attempts": 1}');
select count(*) from queue_send_many('work', array['1', '2']::jsonb[]);
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('work', 1)), 1::bigint, 'given a lease');
select t.clock_moves('1 hour');
select is((select count(*) from queue_claim('work', 1)), 1::bigint, 'and another, after an hour');

-- when the next tick runs elsewhere, ten minutes before
update tide set timeline = 'elsewhere';
select t.clock_moves('-10 minutes');
select is_empty($$select * from queue_claim('work')$$, 'both still run');

-- then they are taken back when that clock has passed them, and nobody was away for two hours
select t.clock_moves('4 hours');
do $$
begin
    -- A tick has so much time, and leaves the rest to the next.
    for v_tick in 1 .. 20 loop
        perform queue_claim('work');
        commit;
        exit when not exists (select from lease);
        perform t.clock_moves('1 second');
        commit;
    end loop;
end;
$$;
select is((select count(*) from dead_letter where reason = 'expired'), 2::bigint, 'both are taken back, and charged');
select is_empty($$select message from incident where routine = '_lease_expire'$$, 'without an incident');

select * from finish();
