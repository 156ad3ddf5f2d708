-- R28, design 3: one message that kills its worker among eight
select plan(5);
select t.clock_stands();
select queue_create('work', '{"lease": "1 minute", "backoff_base": "0", "max_attempts": 3}');
select count(*) from queue_send_many('work', array(select to_jsonb(n) from generate_series(1, 8) as n));

-- a worker takes all it can get, and dies whenever the fifth is among them
create function pg_temp.work() returns text language plpgsql as $$
declare
    v_claim record;
begin
    select lease_id, count(*) as size, bool_or(payload = '5') as is_deadly into v_claim
    from queue_claim('work', 8) group by lease_id;
    if not found then
        return null;
    end if;
    if v_claim.is_deadly then
        perform t.clock_moves('61 seconds');
        return v_claim.size || ' died';
    end if;
    perform queue_ack(v_claim.lease_id), t.clock_moves('1 second');
    return v_claim.size || ' done';
end;
$$;
create temporary table log (nr serial, said text);
do $$
begin
    for n in 1 .. 40 loop
        set local tidegate.tick = 'on';
        insert into log (said) values (pg_temp.work());
        perform t.clock_moves('1 second');
    end loop;
end;
$$;
select diag((select string_agg(said, ', ' order by nr) from log));
select is((select sum(split_part(said, ' ', 1)::integer) from log where said like '% done'), 7::bigint, 'seven are done');
select is((select count(*) from log where said = '1 died'), 3::bigint, 'the deadly one is charged when alone, three times');
select is((select count(*) from log where said like '% died'), 6::bigint, 'after three crowds: eight, four, two');
select results_eq(
    $$select payload, attempts::int, reason from dead_letter$$, $$values ('5'::jsonb, 3, 'expired')$$, 'and is buried alone'
);
select is(t.places('work'), 'dead=1', 'nobody else lost anything');

select * from finish();
