select plan(9);

-- given channels with and without
select queue_create('quiet');
select queue_create('loud', '{"doorbell": "250 ms"}');
select topic_create('loud', '{"doorbell": "10 ms"}');
select results_eq(
    $$select kind, name::text collate "default", doorbell from policy order by kind, name$$,
    $$values ('queue', 'loud', '250 ms'::interval), ('queue', 'quiet', null), ('topic', 'loud', '10 ms')$$,
    'it is off unless asked for'
);

create function t.sequences() returns bigint
language sql stable
return (select count(*) from pg_sequences s where s.schemaname = 'tidegate' and s.sequencename like 'doorbell%');
select is(t.sequences(), 2::bigint, 'each has a sequence of its own');

-- changed, taken away, given back
select queue_configure('loud', '{"doorbell": null}');
select is((select doorbell from policy where kind = 'queue' and name = 'loud'), null, 'null takes it away');
select queue_configure('loud', '{"lease": "2 minutes"}');
select topic_configure('loud', '{"doorbell": "5 ms"}');
select is((select doorbell from policy where kind = 'topic'), '5 ms', 'a new interval replaces the old');
select topic_configure('loud', '{"lease": "2 minutes"}');
select is((select doorbell from policy where kind = 'topic'), '5 ms', 'and another key leaves it alone');

-- refused
select throws_ok(
    $$select queue_configure('loud', '{"doorbell": "61 s"}')$$, 'TG010', null, 'more than a minute is refused'
);
select throws_ok(
    $$select queue_configure('loud', '{"doorbell": "-1 ms"}')$$, 'TG010', null, 'and less than nothing'
);
select throws_ok(
    $$select queue_configure('loud', '{"doorbell": "soon"}')$$, 'TG010', null, 'and what is no interval'
);

-- dropped
select queue_drop('loud');
select topic_drop('loud');
select queue_drop('quiet');
select is(t.sequences(), 0::bigint, 'the sequences go with their channels');

select * from finish();
